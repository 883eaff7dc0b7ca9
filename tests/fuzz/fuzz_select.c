/* Select questions and pages: what is understood is understood again when it is written anew. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/select.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tsp_select s, again;
    struct kl_arena          arena;
    struct kl_buf            out = { 0 };
    struct kl_err            err;
    struct tsp_page          page;
    struct kl_cur            items;

    kl_arena_init(&arena, 1 << 20);
    (void)tsp_page_open(kl_span(data, size), &page, &items, &err);
    if (tsp_select_decode(kl_span(data, size), &arena, &s, &err) == KL_OK) {
        assert(tsp_select_encode(&s, &out, &err) == KL_OK);
        assert(tsp_select_decode(kl_buf_span(&out), &arena, &again, &err) == KL_OK);
        assert(again.matcher_count == s.matcher_count && kl_span_eq(again.tenant, s.tenant) &&
               again.from_ms == s.from_ms && kl_fp_cmp(again.cursor_fp, s.cursor_fp) == 0);
        if (tsp_select_compile(&s, &err) == KL_OK)
            tsp_select_release(&s);
    }
    kl_buf_deinit(&out);
    kl_arena_deinit(&arena);
    return 0;
}
