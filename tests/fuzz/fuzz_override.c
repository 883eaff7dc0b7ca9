/* What is understood is written to the same, and understood again. Its checksum is put right first. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/hash.h"
#include "libtsproto/override.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_override *o = malloc(2 * sizeof *o);
    struct kl_buf        in = { 0 }, out = { 0 };
    struct kl_err        err;

    kl_buf_add(&in, data, size);
    kl_buf_add32(&in, kl_crc32c(0, in.at, in.size));
    if (tsp_override_read(kl_buf_span(&in), &o[0], &err) == KL_OK) {
        assert(tsp_override_write(&o[0], &out, &err) == KL_OK);
        assert(tsp_override_read(kl_buf_span(&out), &o[1], &err) == KL_OK);
        assert(o[1].count == o[0].count || out.size > TSP_OVERRIDE_VALUE_MAX / 2);
        assert(o[1].versions[0].number == o[0].versions[0].number &&
               kl_span_eq(o[1].versions[0].all, o[0].versions[0].all) && kl_span_eq(o[1].tenant, o[0].tenant));
    } else {
        assert(err.text[0] != '\0');
    }
    kl_buf_deinit(&in);
    kl_buf_deinit(&out);
    free(o);
    return 0;
}
