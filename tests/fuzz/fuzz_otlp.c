/* OTLP: any bytes are refused or walked to the last data point, and what is made of one is consistent. */
#include <assert.h>
#include <stdint.h>

#include "libtsproto/otlp_labels.h"
#include "libtsproto/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kl_arena arena;
static struct kl_labels_builder b;

static enum kl_code point_labels(const struct tsp_otlp_settings *o, const struct tsp_otlp_resource *r,
                                 const struct tsp_otlp_scope *s, const struct tsp_otlp_point *p,
                                 struct kl_err *err)
{
    static struct tsp_otlp_shared shared;

    tsp_otlp_shared(o, r, s, &arena, &shared);
    return tsp_otlp_labels(o, &shared, p, &b, &arena, err);
}

static void labels(const struct tsp_otlp_resource *r, const struct tsp_otlp_scope *s,
                   const struct tsp_otlp_metric *m, const struct tsp_otlp_point *p)
{
    struct tsp_otlp_settings o = { .promote_all = true, .scope_labels = true, .keep_identifying = true };
    struct kl_span name;
    struct kl_err  err;

    for (o.naming = 0; o.naming < TSP_OTLP_NAMINGS; o.naming++) {
        kl_labels_start(&b);
        if (point_labels(&o, r, s, p, &err) == KL_OK)
            for (size_t i = 0; i < b.count; i++)
                for (size_t j = 0; j < i; j++)
                    assert(!kl_span_eq(b.pairs[i].name, b.pairs[j].name));
        if (tsp_otlp_metric_name(&o, m, &arena, &name, &err) == KL_OK)
            assert(name.size > 0);
        (void)tsp_otlp_unit_name(m->unit, &arena, &name, &err);
    }
    kl_labels_start(&b);
    (void)tsp_otlp_target_info(&o, r, &b, &arena, &err);
    kl_arena_deinit(&arena);
}

static void point(const struct tsp_otlp_point *p)
{
    struct tsp_otlp_numbers bounds = tsp_otlp_bounds(p), counts = tsp_otlp_buckets(p);
    struct tsp_otlp_exp e;
    struct kl_cur  c;
    struct kl_hist h;
    struct kl_buf  out = { 0 };
    struct kl_err  err;
    uint64_t       bits, ns;
    uint32_t       n = 0;
    double         q, v;

    if (p->kind == TSP_OTLP_HIST && tsp_otlp_hist_check(p, &err) == KL_OK) {
        while (tsp_otlp_numbers_next(&bounds, &bits))
            n++;
        assert(n == p->bound_count);
        for (n = 0; tsp_otlp_numbers_next(&counts, &bits); )
            n++;
        assert(n == p->bucket_count);
    }
    if (p->kind == TSP_OTLP_EXP && tsp_otlp_exp_read(p, &arena, &e, &err) == KL_OK) {
        for (int i = 0; i < 3 && e.scale >= TSP_OTLP_SCALE_MIN; i++) {
            if (tsp_otlp_exp_hist(&e, &arena, &h, &err) == KL_OK)
                tsp_hist_put(&out, &h);                /* asserts that it is consistent */
            tsp_otlp_exp_rescale(&e, e.scale - 1);
        }
    }
    c = tsp_otlp_in(p->body);
    for (n = 0; n < p->exemplar_count; n++)
        (void)tsp_otlp_exemplar_next(&c, p, &arena, &b, &ns, &v, &err);
    assert(!tsp_otlp_exemplar_next(&c, p, &arena, &b, &ns, &v, &err) && err.code == KL_OK);
    for (c = tsp_otlp_in(p->body); p->kind == TSP_OTLP_SUMMARY && tsp_otlp_quantile_next(&c, &q, &v); ) { }
    kl_buf_deinit(&out);
    kl_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_cur            rs = tsp_otlp_in(kl_span(data, size)), ss, ms, ps;
    struct tsp_otlp_resource r;
    struct tsp_otlp_scope    s;
    struct tsp_otlp_metric   m;
    struct tsp_otlp_point    p;
    struct kl_span           child;
    struct kl_err            err;
    bool delta, checked = tsp_otlp_check(kl_span(data, size), &delta, &err) == KL_OK;

    kl_arena_init(&arena, 4 << 20);
    while (tsp_otlp_next(&rs, TSP_OTLP_RESOURCES, &child)) {
        if (!tsp_otlp_resource_read(child, &r)) {
            assert(!checked);
            continue;
        }
        for (ss = tsp_otlp_in(child); tsp_otlp_next(&ss, TSP_OTLP_SCOPES, &child); ) {
            if (!tsp_otlp_scope_read(child, &s)) {
                assert(!checked);
                continue;
            }
            for (ms = tsp_otlp_in(child); tsp_otlp_next(&ms, TSP_OTLP_METRICS, &child); ) {
                if (!tsp_otlp_metric_read(child, &m)) {
                    assert(!checked);
                    continue;
                }
                for (ps = tsp_otlp_in(m.data); m.kind != TSP_OTLP_NONE && tsp_otlp_next(&ps, TSP_OTLP_POINTS, &child); )
                    if (tsp_otlp_point_read(m.kind, child, &p, &err) == KL_OK) {
                        point(&p);
                        labels(&r, &s, &m, &p);
                    }
            }
        }
    }
    return 0;
}
