/* Influx lines: any bytes are read or refused; every item moves on, every line's fields end. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/influx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_influx      *t = tsp_influx_new();
    struct tsp_influx_line  line;
    struct tsp_influx_field field;
    enum tsp_influx_item    item;
    struct kl_buf           out = { 0 };
    struct kl_err           err;
    size_t                  items = 0, fields = 0;

    tsp_influx_open(t, kl_span(data, size));
    while ((item = tsp_influx_next(t, &line, &err)) != TSP_INFLUX_END) {
        assert(++items <= size);
        if (item != TSP_INFLUX_LINE) {
            assert(tsp_influx_field(t, &field, &err) == TSP_INFLUX_NO_MORE);
            continue;
        }
        assert(line.measurement.size > 0 && line.labels->count > 0);
        line.labels->pairs[0].value = line.measurement;
        (void)kl_labels_finish(line.labels, &out, &err);
        while (tsp_influx_field(t, &field, &err) != TSP_INFLUX_NO_MORE)
            assert(++fields <= size && field.name.size > 0 && field.name_raw.size >= field.name.size);
    }
    kl_buf_deinit(&out);
    tsp_influx_free(t);
    return 0;
}
