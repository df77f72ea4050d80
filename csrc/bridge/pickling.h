/* pickling.h - the codec's pickles, with their large buffers beside them. Used by codec.c. */
#ifndef FMP_BRIDGE_PICKLING_H
#define FMP_BRIDGE_PICKLING_H

#include "bridge/codec.h"

/* `begin` bytes of e->small (header and prefix) are kept free. 0, or -1 with an exception. */
int fmp_encode_pickle(struct fmp_codec *codec, struct fmp_encoded *e, PyObject *object,
                      size_t begin);

PyObject *fmp_decode_pickle(struct fmp_codec *codec, const uint8_t *data, size_t size);
PyObject *fmp_decode_pickle_buffers(struct fmp_codec *codec, const uint8_t *data, size_t size,
                                    PyObject *keeper);

/* The same of a record whose buffers lie outside, in `keeper`'s lease; `data` is what lies inside. */
PyObject *fmp_decode_pickle_outside(struct fmp_codec *codec, const uint8_t *data, size_t size,
                                    const struct fmp_lease *outside, PyObject *keeper);

#endif
