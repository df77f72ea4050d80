/* status.h - the result codes that every floor below Python returns.
 *
 * An int: 0 is done, a positive value is one of enum fmp_status, a negative value is -errno of
 * the system call that failed. Nothing below bridge/ raises; bridge/errors.c turns a code into an
 * exception.
 */
#ifndef FMP_BASE_STATUS_H
#define FMP_BASE_STATUS_H

enum fmp_status {
    FMP_OK = 0,
    FMP_AGAIN,        /* cannot proceed now: struct fmp_wait says what to wait for */
    FMP_TIMEOUT,      /* the deadline passed */
    FMP_CLOSED,       /* the peer is gone and nothing is left to read */
    FMP_BROKEN,       /* the peer is gone and nobody will read what we write */
    FMP_OWNER_DIED,   /* got the lock; its previous owner died inside */
    FMP_OVER_RELEASE, /* released more often than acquired */
    FMP_NOT_OWNER,    /* released by somebody who does not hold it */
    FMP_TOO_BIG,      /* larger than the object can ever hold */
    FMP_DIRECT,       /* what comes next has a place of its own: struct fmp_buffer */
    FMP_CORRUPT,      /* shared bytes that no correct peer writes */
    FMP_PYERR,        /* bridge and above only: a Python exception is set */
};

#endif
