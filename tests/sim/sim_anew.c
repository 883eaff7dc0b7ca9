/*
 * A cell whose log is deleted and made anew beneath it, one partition's: every member of it goes over to the new
 * one, also a standby that only waits, and whoever becomes the owner then, however late; what is acknowledged after that is there, also
 * for who lost all disks.
 */
#include "tests/sim/cluster.h"

#include "ingestor/ing_priv.h"
#include "libkoal/base/mem.h"

enum { SERIES = 12, SENT_MAX = 4000 };

static struct { int64_t time_ms; bool acked; } sent[SENT_MAX];     /* batches; a test is a process */
static unsigned sent_count;

static void write_some(struct cell *c)
{
    struct kl_buf    body = { 0 };
    struct kit_push *out = kl_new(sizeof *out);
    int64_t          now_ms = kl_env_now_ms(c->env);

    ck_assert_uint_lt(sent_count, SENT_MAX);
    for (unsigned n = 0; n < SERIES; n++)
        kl_buf_addf(&body, "told_%u{series=\"%u\"} %u %" PRId64 "\n", n % 4, n, sent_count * n, now_ms);
    kit_push(out, c->nodes[sent_count % C_DOORMEN].dm, 0, body, kl_hash128(body.at, body.size), now_ms);
    for (int n = 0; n < 200 && !out->done; n++)
        kl_env_sim_run(c->sim, 500);
    sent[sent_count].time_ms = now_ms;
    sent[sent_count++].acked = out->done && out->p.status == 204;      /* what is not done keeps its memory */
}

static void live_for(struct cell *c, int64_t seconds)
{
    int64_t until_ns = c_now_ns(c) + seconds * 1000000000;

    while (c_now_ns(c) < until_ns)
        write_some(c);
}

static struct cell *cell_new(uint64_t seed)
{
    struct cell *c = kl_new(sizeof *c);

    c_init(c, seed);
    for (unsigned i = 0; i < C_NODES; i++)
        c_start(c, i);
    c_settle(c, "at the beginning");
    live_for(c, 30);
    return c;
}

/* A member of the partition, the owner or not: on which node. */
static unsigned member(struct cell *c, uint32_t number, bool owner)
{
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        if (c->nodes[i].ing != NULL && atomic_load(&c->nodes[i].ing->partitions[number].wanted) &&
            (ing_epoch(&c->nodes[i].ing->partitions[number]) != 0) == owner)
            return i;
    ck_abort_msg("no such member");
}

static void all_have(struct cell *c, uint32_t number)
{
    uint64_t incarnation = c->nodes[member(c, number, true)].ing->partitions[number].incarnation;

    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++) {
        const struct ing_partition *p = &c->nodes[i].ing->partitions[number];

        if (!atomic_load(&p->wanted))
            continue;
        ck_assert_msg(atomic_load(&p->state) == ING_LIVE, "%s: %s", c->nodes[i].name, p->words.text);
        ck_assert_uint_eq(p->incarnation, incarnation);
        for (uint32_t k = 0; k < p->manifest.cut_count; k++)           /* none of the log before */
            ck_assert_uint_le(p->manifest.cuts[k].seq, p->applied);
    }
}

/* Whatever was sent after that time and acknowledged is answered, and nothing twice. */
static void must_be_there(struct cell *c, int64_t after_ms)
{
    struct kit_query *a = kl_new(sizeof *a);
    int64_t           now_ms = kl_env_now_ms(c->env);
    unsigned          acked = 0, all = 0, found = 0;
    char              text[100];
    const char       *value;

    for (unsigned i = 0; i < sent_count; i++)
        if (sent[i].time_ms > after_ms) {
            all++;
            acked += sent[i].acked;
        }
    snprintf(text, sizeof text, "sum(count_over_time({__name__=~\"told_.*\"}[%" PRId64 "ms]))", now_ms - after_ms);
    kit_ask(a, c->nodes[C_QUERIER].q, (struct pql_params){ .text = kl_span_str(text), .start_ms = now_ms,
                                                           .end_ms = now_ms, .step_ms = 1000, .now_ms = now_ms });
    for (int n = 0; n < 200 && !a->released; n++)
        kl_env_sim_run(c->sim, 100);
    kl_buf_add8(&a->got, 0);
    ck_assert(a->released);
    value = strstr((char *)a->got.at, "\"values\":[[");
    ck_assert_msg(value != NULL && sscanf(value, "\"values\":[[%*[0-9.],\"%u\"", &found) == 1, "%s", (char *)a->got.at);
    ck_assert_uint_gt(acked, 10);
    ck_assert_msg(found >= acked * SERIES && found <= all * SERIES, "%u samples of %u acknowledged, %u sent", found,
                  acked * SERIES, all * SERIES);
}

/* Nothing but the log and the catalogue is left of it. */
static void all_lose_their_disks(struct cell *c)
{
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        c_kill(c, i, C_DISK);
    kl_env_sim_run(c->sim, 5000);
    for (unsigned i = C_DOORMEN; i < C_QUERIER; i++)
        c_start(c, i);
    c_settle(c, "after all disks were lost");
}

/* `after_ms`: when it was made anew. */
static void must_have_gone_over(struct cell *c, int64_t after_ms)
{
    c_settle(c, "after the log was made anew");
    all_have(c, 0);
    must_be_there(c, after_ms);
    live_for(c, 150);
    all_have(c, 0);
    must_be_there(c, after_ms);
    all_lose_their_disks(c);
    must_be_there(c, after_ms);
}

START_TEST(every_member_goes_over_to_a_log_made_anew)
{
    struct cell *c = cell_new(100 + (uint64_t)_i);
    int64_t      at_ms = kl_env_now_ms(c->env);

    kl_bus_sim_recreate(c->servers, 0);
    live_for(c, 30);
    must_have_gone_over(c, at_ms);
}
END_TEST

START_TEST(a_standby_goes_over_also_when_its_owner_dies_meanwhile)
{
    struct cell *c = cell_new(200 + (uint64_t)_i);
    unsigned     owner = member(c, 0, true), standby = member(c, 0, false);
    int64_t      at_ms = kl_env_now_ms(c->env);

    if (_i % 3 == 1)                                   /* it could not read the catalogue, and waits to try again */
        c->nodes[standby].ing->partitions[0].follow.again_ns = c_now_ns(c) + INT64_C(60000000000);
    kl_bus_sim_recreate(c->servers, 0);
    kl_env_sim_run(c->sim, 40 * _i * (_i % 2 == 0 ? 1 : 10));
    c_kill(c, owner, C_KILL);
    if (_i % 3 == 0) {                                 /* and has not heard what that one did of late */
        kl_bus_sim_cut(c->nodes[standby].bus, true);
        kl_env_sim_run(c->sim, 8000);
        kl_bus_sim_cut(c->nodes[standby].bus, false);
    }
    live_for(c, 40);
    c_start(c, owner);
    must_have_gone_over(c, at_ms);
}
END_TEST

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0"; }      /* the cells are not taken down */

int main(void)
{
    TCase *t = tcase_create("all");

    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, every_member_goes_over_to_a_log_made_anew, 0, 2);
    tcase_add_loop_test(t, a_standby_goes_over_also_when_its_owner_dies_meanwhile, 0, 12);
    return kit_run("anew", t);
}
