/* How hours stand, from another process: what is read ends, and each hour took at least two bytes. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "libtsproto/select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_cur c = kl_cur(data, size);
    struct kl_buf again = { 0 };
    int64_t       hour;
    uint64_t      seq;
    size_t        count = 0;

    tsp_marks_begin(&again, tsp_marks_rest(&c));
    while (tsp_marks_next(&c, &hour, &seq)) {
        tsp_marks_add(&again, hour, seq);
        count++;
    }
    if (count * 2 > size || (count > 0 && again.size > size))
        abort();
    kl_buf_deinit(&again);
    return 0;
}
