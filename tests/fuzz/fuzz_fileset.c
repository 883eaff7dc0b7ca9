/* libblock: the parts of a fileset as they are once a checksum has passed. The first byte says
 * which, the second how many series; postings and a page come as two halves, as the third says. */
#include <stdlib.h>
#include <string.h>

#include "libblock/fileset_priv.h"

static void nothing(void *ctx, struct kl_span text) { (void)ctx; (void)text; }
static void no_meta(void *ctx, struct kl_span m, uint8_t t, struct kl_span u, struct kl_span h)
{
    (void)ctx; (void)m; (void)t; (void)u; (void)h;
}
static void no_exemplar(void *ctx, struct kl_fp fp, int64_t t, double v, struct kl_labels l)
{
    (void)ctx; (void)fp; (void)t; (void)v; (void)l;
}

static void postings(const uint8_t *in, size_t size, uint32_t series, uint8_t cut)
{
    size_t               half = size * cut / 256;
    struct blk_postings *p;
    struct kl_err        err;
    struct blk_page     *page;
    struct kl_matcher    m[2] = {
        { .op = KL_MATCH_EQ, .name = kl_span("a", 1), .value = kl_span("b", 1) },
        { .op = KL_MATCH_NE, .name = kl_span("job", 3), .value = kl_span("", 0) },
    };

    if (blk_postings_read(kl_span(in, half), series, &p, &err) != KL_OK)
        return;
    for (size_t n = 0; n <= 2; n++) {
        struct blk_ids *ids = blk_postings_match(p, m, n);
        blk_postings_names(p, ids, nothing, NULL);
        blk_postings_values(p, kl_span("a", 1), ids, nothing, NULL);
        blk_ids_free(ids);
    }
    page = kl_new(sizeof *page);
    blk_page_read(kl_span(in + half, size - half), p, 0,
                  series < BLK_PAGE_SERIES ? series : BLK_PAGE_SERIES, page, &err);
    for (uint32_t i = 0; i < page->count; i++)
        blk_page_labels(page, p, i);
    blk_page_deinit(page);
    free(page);
    blk_postings_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct kl_span         raw;
    struct kl_err          err;
    struct blk_info        info;
    uint64_t               order[BLK_ORDER_SERIES];
    struct blk_digest      digests[BLK_FILES];
    struct blk_summaries   summaries;
    struct blk_data       *data;
    struct blk_extras_each each = { no_meta, no_exemplar, NULL };
    void                  *copy;
    size_t                 n;
    uint32_t               series;

    if (size < 3)
        return 0;
    raw = kl_span(in + 3, size - 3);
    series = in[1];
    switch (in[0] % 8) {
    case 0:
        blk_info_read(raw, &info, &err);
        break;
    case 1:
        blk_digests_read(raw, digests, &err);
        blk_checkpoint_check(raw, kl_span(in, 1), 7, &err);
        break;
    case 2:
        if (blk_summaries_read(raw, series, &summaries, &err) == KL_OK)
            blk_summaries_deinit(&summaries);
        break;
    case 3:
        postings(raw.at, raw.size, series, in[2]);
        break;
    case 4:
        if (blk_bloom_whole(raw))
            blk_bloom_may_have(raw, (struct kl_fp){ series, in[2] });
        break;
    case 5:
        blk_extras_read(raw, &each, &err);
        break;
    case 6:
        copy = malloc(raw.size + 1);
        memcpy(copy, raw.at, raw.size);
        if (blk_data_read(copy, raw.size, 1000, in[2], &data, &err) == KL_OK)
            blk_data_free(data);
        break;
    default:
        if (blk_frame_read(raw, 0, &copy, &n, &err) == KL_OK)
            free(copy);
        blk_order_read(raw, in[2], series, order, &err);
        break;
    }
    return 0;
}
