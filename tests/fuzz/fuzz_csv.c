/* CSV: up to the first line end a format, behind it rows: any bytes are read or refused. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "libtsproto/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t         *lf = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t                 head = lf == NULL ? 0 : (size_t)(lf - data), items = 0, cells = 0;
    char                   text[300];
    struct tsp_csv_format *f;
    struct tsp_csv        *t;
    struct tsp_csv_row     row;
    struct tsp_csv_cell    cell;
    enum tsp_csv_item      item;
    struct kl_buf          out = { 0 };
    struct kl_err          err;

    if (lf == NULL || head >= sizeof text)
        return 0;
    memcpy(text, data, head);
    text[head] = '\0';
    if (tsp_csv_format_parse(text, &f, &err) != KL_OK)
        return 0;
    t = tsp_csv_new();
    tsp_csv_open(t, kl_span(lf + 1, size - head - 1), f);
    while ((item = tsp_csv_next(t, &row, &err)) != TSP_CSV_END) {
        assert(++items <= size);
        if (item != TSP_CSV_ROW) {
            assert(tsp_csv_metric(t, &cell, &err) == TSP_CSV_NO_MORE);
            continue;
        }
        while (tsp_csv_metric(t, &cell, &err) != TSP_CSV_NO_MORE)
            assert(++cells <= size && cell.metric.size > 0);
        (void)kl_labels_finish(row.labels, &out, &err);
    }
    kl_buf_deinit(&out);
    tsp_csv_free(t);
    tsp_csv_format_free(f);
    return 0;
}
