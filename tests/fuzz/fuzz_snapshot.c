/*
 * ingestor/snap_get: blocks of a snapshot's head, behind the checksums, which the fuzzer cannot guess:
 * they are cut here as it likes. Whatever is taken is used as a partition would: read, cut, let go,
 * and put again.
 *
 *   the input: u8 kind, u16 size, payload, and so on
 */
#include "tests/unit/ingestor/snap_kit.h"

static void taken(void *ctx, struct ing_series *s, struct ing_chunk *c) { (void)ctx, (void)s, (void)c; }

static void use(struct snap_kit *k)
{
    struct ing_partition *p = &k->p;
    struct kl_buf         text = { 0 };
    struct ing_put        put;
    struct ing_snap_header h = { .partition = 0, .seq = 1, .serial = 1 };

    snap_kit_dump(k, &text);
    kl_buf_deinit(&text);
    for (ing_put_begin(&put, p, &h, 0, 0); !put.done;)
        ing_put_slice(&put);
    ing_put_free(&put);
    for (uint32_t t = 0; t < p->tenant_count; t++) {
        struct ing_head *head = p->tenants[t].head;

        for (uint32_t id = 0; id < head->made; id++) {
            struct ing_series *s = ing_series_at(head, id);

            if (!s->alive)
                continue;
            if (s->last_ms < INT64_MAX)
                ing_series_float(head, s, s->last_ms + 1, 1);
            ing_series_float(head, s, 5, 1);
            ing_series_start(head, s, 5, 1);
            ing_series_cut(head, s, 1, 1700000000000, taken, NULL);
            ing_series_let_go(head, s, 1);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct snap_kit *k = snap_kit_new(NULL, 7200000);
    struct ing_get   g = { .p = &k->p, .header = { .version = 2 + (uint32_t)(size % 3), .seq = 1 }, .size_bytes = size };
    struct kl_cur    c = kl_cur(in, size);
    struct kl_err    err;
    bool             fine = true;

    while (fine && kl_cur_left(&c) >= 3) {
        uint8_t        kind = kl_cur_8(&c);
        uint16_t       want = kl_cur_16(&c);
        struct kl_span payload = kl_cur_bytes(&c, want < kl_cur_left(&c) ? want : kl_cur_left(&c));
        uint8_t       *own = malloc(payload.size + 1);

        memcpy(own, payload.at, payload.size);         /* so that a read past its end is seen */
        fine = ing_get_block(&g, kind, kl_span(own, payload.size), &err) == KL_OK;
        free(own);
    }
    if (fine)
        use(k);
    ing_get_free(&g);
    snap_kit_free(k);
    return 0;
}
