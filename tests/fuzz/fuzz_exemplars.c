/* A run of exemplars from another process: what is read of it is sound, and its end is found. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libtsproto/select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_cur    c = kl_cur(data, size);
    struct kl_labels labels;
    struct kl_buf    again = { 0 };
    int64_t          time_ms;
    double           value;
    size_t           bytes = 0;

    while (tsp_exemplar_next(&c, &time_ms, &value, &labels)) {
        struct kl_cur   pairs = kl_labels_cur(labels);
        struct kl_label x;

        while (kl_labels_next(&pairs, &x))
            bytes += x.name.size + x.value.size;
        tsp_exemplar_put(&again, time_ms, value, kl_span(labels.at, labels.size));
    }
    if (bytes > size || again.size > size)             /* it is never longer than it came */
        abort();
    kl_buf_deinit(&again);
    return 0;
}
