/* u16 size of the symbols' content, that, then a series' content; and all of it as each of the other parts. */
#include <assert.h>
#include <stdlib.h>

#include "libtsproto/tsdb.h"

static void try_sections(const uint8_t *data, size_t size)
{
    struct tsp_tsdb_toc toc;
    struct kl_span      content;
    struct kl_err       err;
    uint64_t            offset;
    uint32_t            n;

    if (size >= TSP_TSDB_INDEX_HEAD + TSP_TSDB_TOC)
        (void)tsp_tsdb_toc_read(data, data + size - TSP_TSDB_TOC, size, &toc, &err);
    (void)tsp_tsdb_section(kl_span(data, size), &content, &err);
    (void)tsp_tsdb_all_series(kl_span(data, size), &offset, &err);
    if (tsp_tsdb_postings(kl_span(data, size), &n, &err) == KL_OK)
        for (uint32_t i = 0; i < n; i++)
            (void)tsp_tsdb_posting(kl_span(data, size), i);
    if (tsp_tsdb_series_size(kl_span(data, size)) == size)
        (void)tsp_tsdb_series_content(kl_span(data, size), &content, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tsp_tsdb_symbols *symbols;
    struct tsp_tsdb_series   series = { 0 };
    struct kl_buf            out = { 0 };
    struct kl_err            err;
    size_t                   n = size < 2 ? 0 : (size_t)data[0] << 8 | data[1];

    try_sections(data, size);
    if (size < 2 || n > size - 2)
        return 0;
    for (uint8_t version = 1; version <= 2; version++) {
        if (tsp_tsdb_symbols_new(kl_span(data + 2, n), version, 9, &symbols, &err) != KL_OK)
            continue;
        if (tsp_tsdb_series_read(kl_span(data + 2 + n, size - 2 - n), symbols, &series, &err) == KL_OK) {
            assert(series.count <= size);
            for (size_t i = 0; i < series.count; i++)
                assert(series.chunks[i].min_ms <= series.chunks[i].max_ms);
            (void)kl_labels_finish(&series.labels, &out, &err);
        }
        tsp_tsdb_symbols_free(symbols);
    }
    tsp_tsdb_series_deinit(&series);
    kl_buf_deinit(&out);
    return 0;
}
