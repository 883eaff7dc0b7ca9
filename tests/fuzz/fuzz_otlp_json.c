/* OTLP in JSON: any bytes are refused, or become a message that the decoder takes. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/otlp.h"
#include "libtsproto/otlp_json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_buf out;
    struct kl_err err;
    enum kl_code  code;
    bool          delta;

    kl_buf_init(&out, 1 << 20);
    code = tsp_otlp_json(kl_span(data, size), &out, &err);
    assert(code == KL_OK || code == KL_EINVAL || code == KL_ELIMIT);
    if (code == KL_OK)
        assert(tsp_otlp_check(kl_buf_span(&out), &delta, &err) == KL_OK);
    kl_buf_deinit(&out);
    return 0;
}
