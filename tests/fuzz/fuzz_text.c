/* Text exposition and OpenMetrics (first byte odd): every line is read, or bad; the end is reached. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void finish(struct kl_labels_builder *b)
{
    struct kl_buf out = { 0 };
    struct kl_err err;

    if (kl_labels_finish(b, &out, &err) == KL_OK)
        assert(kl_labels_check((struct kl_labels){ .at = (const uint8_t *)out.at, .size = out.size }, &err) == KL_OK);
    kl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_text       *t = tsp_text_new();
    struct tsp_text_sample s;
    struct tsp_text_meta   m;
    struct kl_err          err;
    enum tsp_text_item     item;
    size_t                 items = 0;

    if (size > 0) {
        tsp_text_open(t, kl_span(data + 1, size - 1), data[0] & 1);
        while ((item = tsp_text_next(t, &s, &m, &err)) != TSP_TEXT_END) {
            assert(++items <= size + 1);
            if (item == TSP_TEXT_SAMPLE) {
                finish(s.labels);
                if (s.has_exemplar)
                    finish(s.exemplar_labels);
            } else if (item == TSP_TEXT_META) {
                assert(m.metric.size > 0 && kl_utf8_ok(m.metric) && kl_utf8_ok(m.help) && kl_utf8_ok(m.unit));
            }
        }
    }
    tsp_text_free(t);
    return 0;
}
