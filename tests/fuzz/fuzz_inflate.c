/* Packed bodies (first byte: the coding): unpacked within the cap, or refused. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>

#include "libtsproto/inflate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { CAP = 100000 };
    struct kl_err err;
    char         *out;
    size_t        out_size;

    if (size > 0 && tsp_inflate((enum tsp_coding)(data[0] % 5), kl_span(data + 1, size - 1), CAP, &out, &out_size,
                                &err) == KL_OK) {
        assert(out_size <= CAP);
        free(out);
    }
    return 0;
}
