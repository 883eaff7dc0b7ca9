#ifndef TESTS_SIM_KIT_H
#define TESTS_SIM_KIT_H
/* What simulations share: lives that a seed makes anew, and what all of them do to services. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "doorman/doorman.h"
#include "ingestor/ingestor.h"
#include "querier/qr_priv.h"

static inline uint64_t kit_draw(uint64_t *draws)
{
    uint64_t z = *draws += 0x9e3779b97f4a7c15;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

/* The part'th `at_once` of `most` lives, from seed KOA_SIM_FROM on. False: SEED=n asked for one alone. */
static inline bool kit_lives(int part, uint64_t at_once, uint64_t most, void (*live)(uint64_t seed))
{
    const char *one = getenv("SEED"), *from = getenv("KOA_SIM_FROM");
    uint64_t    first = from == NULL ? 0 : strtoull(from, NULL, 10);

    if (one != NULL) {
        if (part == 0)
            live(strtoull(one, NULL, 10));
        return false;
    }
    for (uint64_t seed = (uint64_t)part * at_once; seed < ((uint64_t)part + 1) * at_once && seed < most; seed++)
        live(first + seed);
    return true;
}

static inline int kit_run(const char *name, TCase *t)
{
    Suite   *s = suite_create(name);
    SRunner *r = srunner_create(s);
    int      failed;

    suite_add_tcase(s, t);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}

/* ---- pushes ---- */

static inline struct dm_options kit_doorman(struct kl_log *log, struct kl_metrics *metrics)
{
    return (struct dm_options){ .gates = 2, .partition_inflight_bytes_max = 8 << 20,
                                .inflight_bytes_max = 32 << 20, .append_timeout_ms = 10000,
                                .limits = { .label_count_max = 30, .name_bytes_max = 128,
                                            .value_bytes_max = 1024, .body_bytes_max = 1 << 20,
                                            .inflated_bytes_max = 1 << 20 },
                                .log = log, .metrics = metrics };
}

struct kit_push { struct dm_push p; bool done; };
static inline void kit_pushed(struct dm_push *p) { kl_container_of(p, struct kit_push, p)->done = true; }

/* The body is given away. `sent`: as dm_push. */
static inline void kit_push_as(struct kit_push *s, struct dm_doorman *d, unsigned connection, enum dm_format format,
                               struct kl_buf body, struct kl_fp sent, int64_t now_ms)
{
    *s = (struct kit_push){ .p = { .format = format, .tenant = "anonymous", .body = body.at,
                                   .body_size = body.size, .sent = sent, .now_ms = now_ms, .done = kit_pushed } };
    dm_push(d, connection, &s->p);
}

static inline void kit_push(struct kit_push *s, struct dm_doorman *d, unsigned connection, struct kl_buf body,
                            struct kl_fp sent, int64_t now_ms)
{
    kit_push_as(s, d, connection, DM_TEXT, body, sent, now_ms);
}

/* ---- flushes ---- */

static inline void kit_flushed(struct ing_flush *f) { (void)f; }

/* One that nobody waits for: its memory stays. */
static inline void kit_flush(struct ing_ingestor *ing, struct kl_env_loop *loop)
{
    struct ing_flush *f = kl_new(sizeof *f);

    *f = (struct ing_flush){ .loop = loop, .done = kit_flushed };
    ing_flush(ing, f);
}

/* ---- queries of a range ---- */

struct kit_query { struct qr_query x; bool answered, released; struct kl_buf got; };

static inline void kit_answer(struct qr_query *x)
{
    struct kit_query        *a = kl_container_of(x, struct kit_query, x);
    const struct pql_result *r = x->result;

    a->answered = true;
    if (r == NULL) {
        kl_buf_addf(&a->got, "failed, %d: %s", x->job.failure.kind, x->job.failure.text);
        return;
    }
    pql_result_json(r, 0, r->series_count, &a->got);
    for (size_t i = 0; i < r->warning_count; i++)
        kl_buf_addf(&a->got, "\nwarning: %s", r->warnings[i]);
    for (size_t i = 0; i < r->info_count; i++)
        kl_buf_addf(&a->got, "\ninfo: %s", r->infos[i]);
}

static inline void kit_release(struct qr_job *j)
{
    struct kit_query *a = kl_container_of(kl_container_of(j, struct qr_query, job), struct kit_query, x);

    qr_query_deinit(&a->x);
    a->released = true;
}

/* `got`, and released, when the world went on; the text that params have lives until then. */
static inline void kit_ask(struct kit_query *a, struct qr_querier *q, struct pql_params params)
{
    memset(a, 0, sizeof *a);
    qr_query_init(&a->x);
    a->x.answer = kit_answer;
    a->x.job.release = kit_release;
    a->x.job.partial = a->x.job.strong = true;
    strcpy(a->x.job.tenant, "anonymous");
    a->x.params = params;
    qr_submit(q, &a->x.job);
}
#endif
