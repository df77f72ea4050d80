/* eventcount.c - one bounded sleep; see eventcount.h for the argument.
 *
 * Owns nothing. *sleepers is written by sleepers only; a kill during the sleep leaves it one too
 * high.
 */
#include "sync/eventcount.h"

#include "base/status.h"
#include "platform/lease.h"

int
fmp_wait_sleep(const struct fmp_wait *w, int64_t ns)
{
    fmp_lease_settle();
    if (w->fd >= 0) {
        return fmp_poll_one(w->fd, w->events, ns);
    }
    if (w->many != 0) {
        return fmp_poll_many(w->many, w->n_many, ns);
    }
    if (w->word == 0) {
        return FMP_OK;
    }
    bool nap = w->nap_ns > 0 && w->nap_ns < ns;
    atomic_fetch_add(w->sleepers, 1);
    int rc = fmp_futex_wait(w->word, w->seen, nap ? w->nap_ns : ns);
    atomic_fetch_sub(w->sleepers, 1);
    return nap && rc == FMP_TIMEOUT ? FMP_OK : rc;
}
