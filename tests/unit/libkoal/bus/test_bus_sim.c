/*
 * libkoal/bus/bus_sim: what a service may rely on holds however bad the network is; what it may not, happens.
 */
#include "libkoal/bus/bus_sim.h"
#include "tests/suite.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kl_env_sim  *sim;
static struct kl_env      *env[2];
static struct kl_env_loop *loop[2];
static struct kl_bus_sim  *servers;
static struct kl_bus      *bus[2];

static void begin(uint64_t seed)
{
    sim = kl_env_sim_new(seed);
    servers = kl_bus_sim_new(kl_env_sim_process(sim), 2, seed);
    for (int i = 0; i < 2; i++) {
        env[i] = kl_env_sim_process(sim);
        loop[i] = env[i]->sched->loop_new(env[i]->sched, "test", 1000);
        bus[i] = kl_bus_sim_client(servers, env[i]);
    }
}

static void setup(void) { begin(5); }

static void teardown(void)
{
    for (int i = 0; i < 2; i++)
        bus[i]->close(bus[i]);
    kl_env_sim_run(sim, 1000);
    for (int i = 0; i < 2; i++) {
        env[i]->sched->loop_free(loop[i]);
        bus[i]->free(bus[i]);
    }
    kl_bus_sim_free(servers);
    kl_env_sim_free(sim);
}

static void stormy(void)
{
    kl_bus_sim_weather(servers, &(struct kl_bus_sim_weather){ .lose = 150, .slow = 100, .slow_ms = 6000 });
}

/* ---- the log ---- */

enum { RECORDS = 60 };
struct sent { struct kl_bus_append op; char text[16]; unsigned n, tries; bool done; };
static struct sent sent[RECORDS];
static uint64_t    seqs[RECORDS];                      /* of each, as read */
static uint64_t    next_seq;
static unsigned    caught_up;

static void again(struct sent *s);

static void appended(struct kl_bus_append *op)
{
    struct sent *s = kl_container_of(op, struct sent, op);

    if (op->code == KL_ETIMEOUT || op->code == KL_EAGAIN)
        again(s);
    else
        s->done = true;
}

static void again(struct sent *s)
{
    s->tries++;
    s->op = (struct kl_bus_append){ .partition = 1, .record = kl_span_str(s->text), .loop = loop[0],
                                    .done = appended };
    snprintf(s->op.id, sizeof s->op.id, "id-%u", s->n);
    bus[0]->append(bus[0], &s->op);
}

static void record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    unsigned n = 0;

    (void)r;
    for (size_t i = 0; i < rec->bytes.size; i++)       /* digits, and no end but their number */
        n = n * 10 + (unsigned)(((const char *)rec->bytes.at)[i] - '0');
    ck_assert_uint_eq(rec->seq, next_seq);             /* no gap, none twice */
    next_seq++;
    ck_assert_uint_eq(seqs[n], 0);
    seqs[n] = rec->seq;
}

static void at_end(struct kl_bus_reader *r, uint64_t last) { (void)r, (void)last; caught_up++; }
static void broke(struct kl_bus_reader *r, enum kl_code code, uint64_t i, uint64_t first, const struct kl_err *e)
{
    (void)i, (void)e;
    *(enum kl_code *)r->ctx = code;
    next_seq = first;
}

START_TEST(each_record_is_in_the_log_once_whatever_was_lost_and_a_reader_sees_all_of_it_in_order)
{
    enum kl_code         code = KL_OK;
    struct kl_bus_reader r = { .partition = 1, .from_seq = 1, .loop = loop[1], .record = record,
                               .caught_up = at_end, .broken = broke, .ctx = &code };
    unsigned             tries = 0;

    teardown();
    begin(100 + (uint64_t)_i);
    r.loop = loop[1];
    next_seq = 1;
    caught_up = 0;
    memset(seqs, 0, sizeof seqs);
    stormy();
    bus[1]->read_open(bus[1], &r);
    for (unsigned n = 0; n < RECORDS; n++) {
        sent[n] = (struct sent){ .n = n };
        snprintf(sent[n].text, sizeof sent[n].text, "%u", n);
        again(&sent[n]);
        kl_env_sim_run(sim, 200);
        if (n % 16 == 7)
            kl_bus_sim_cut(bus[1], true);
        if (n % 16 == 13)
            kl_bus_sim_cut(bus[1], false);
    }
    kl_bus_sim_cut(bus[1], false);
    kl_env_sim_run(sim, 100000);
    for (unsigned n = 0; n < RECORDS; n++) {
        ck_assert(sent[n].done && sent[n].op.code == KL_OK);
        ck_assert_uint_eq(sent[n].op.seq, seqs[n]);
        tries += sent[n].tries;
    }
    ck_assert_uint_gt(tries, RECORDS);                 /* the weather was bad enough */
    ck_assert_uint_eq(next_seq, RECORDS + 1);
    ck_assert_uint_gt(caught_up, 0);
    ck_assert_int_eq(code, KL_OK);
    bus[1]->read_close(bus[1], &r);
}
END_TEST

static void purged(struct kl_bus_purge *op) { ck_assert_int_eq(op->code, KL_OK); }

START_TEST(a_reader_is_told_of_what_was_purged_and_of_a_stream_made_anew)
{
    enum kl_code         code = KL_OK;
    struct kl_bus_reader r = { .partition = 1, .from_seq = 1, .loop = loop[1], .record = record,
                               .caught_up = at_end, .broken = broke, .ctx = &code };
    struct kl_bus_purge  purge = { .partition = 1, .up_to = 3, .loop = loop[0], .done = purged };

    memset(seqs, 0, sizeof seqs);
    for (unsigned n = 0; n < 5; n++) {
        sent[n] = (struct sent){ .n = n };
        snprintf(sent[n].text, sizeof sent[n].text, "%u", n);
        again(&sent[n]);
    }
    kl_env_sim_run(sim, 1000);
    bus[0]->purge(bus[0], &purge);
    kl_env_sim_run(sim, 1000);
    bus[1]->read_open(bus[1], &r);
    kl_env_sim_run(sim, 1000);
    ck_assert_int_eq(code, KL_ENOENT);
    ck_assert_uint_eq(next_seq, 4);
    bus[1]->read_close(bus[1], &r);
    r.from_seq = 4;
    bus[1]->read_open(bus[1], &r);
    kl_env_sim_run(sim, 1000);
    ck_assert_uint_eq(next_seq, 6);
    kl_bus_sim_recreate(servers, 1);
    kl_env_sim_run(sim, 1000);
    ck_assert_int_eq(code, KL_ECORRUPT);
    bus[1]->read_close(bus[1], &r);
}
END_TEST

/* ---- keys ---- */

static char     value[16];
static uint64_t revision;
static unsigned currents, gone;

static void changed(struct kl_bus_watch *w, const char *key, struct kl_span v, uint64_t at)
{
    (void)w;
    ck_assert_str_eq(key, "a.key");
    ck_assert_uint_ge(at, revision);
    revision = at;
    gone += v.at == NULL;
    snprintf(value, sizeof value, "%.*s", (int)v.size, v.at == NULL ? "" : (const char *)v.at);
}
static void current(struct kl_bus_watch *w) { (void)w; currents++; }

struct kv { struct kl_bus_kv op; bool done; };
static void kv_done(struct kl_bus_kv *op) { kl_container_of(op, struct kv, op)->done = true; }

static enum kl_code put(int who, const char *text, uint64_t expect)
{
    struct kv kv = { .op = { .kind = KL_BUS_KV_PUT, .key = "a.key", .value = kl_span_str(text),
                             .expect = expect, .loop = loop[who], .done = kv_done } };

    bus[who]->kv(bus[who], &kv.op);
    for (int n = 0; n < 1000 && !kv.done; n++)
        kl_env_sim_run(sim, 20);
    ck_assert(kv.done);
    return kv.op.code;
}

START_TEST(a_watch_ends_with_the_last_value_although_it_was_cut_off_while_it_changed)
{
    struct kl_bus_watch w = { .prefix = "a.", .loop = loop[1], .change = changed, .current = current };

    revision = currents = gone = 0;
    ck_assert_int_eq(put(0, "1", 0), KL_OK);
    ck_assert_int_eq(put(0, "2", 0), KL_EEXIST);
    bus[1]->watch(bus[1], &w);
    kl_env_sim_run(sim, 100);
    ck_assert_str_eq(value, "1");
    kl_bus_sim_cut(bus[1], true);
    ck_assert_int_eq(put(1, "3", UINT64_MAX), KL_EAGAIN);
    ck_assert_int_eq(put(0, "4", revision), KL_OK);
    kl_env_sim_run(sim, 100);
    ck_assert_str_eq(value, "1");
    kl_bus_sim_cut(bus[1], false);
    kl_env_sim_run(sim, 100);
    ck_assert_str_eq(value, "4");
    kl_bus_sim_cut(bus[1], true);
    kl_bus_sim_wipe(servers, "a.");
    kl_env_sim_run(sim, 100);
    kl_bus_sim_cut(bus[1], false);
    kl_env_sim_run(sim, 100);
    ck_assert_uint_eq(gone, 1);
    ck_assert_uint_eq(currents, 1);
    bus[1]->unwatch(bus[1], &w);
}
END_TEST

/* ---- questions ---- */

static void question(struct kl_bus_service *s, struct kl_bus_question *q)
{
    struct kl_bus *b = s->ctx;

    b->answer(b, q, KL_OK, q->bytes);
}

struct asked { struct kl_bus_ask op; bool done; };
static void ask_done(struct kl_bus_ask *op) { kl_container_of(op, struct asked, op)->done = true; }

static struct kl_bus_ask ask(void)
{
    struct asked a = { .op = { .subject = "s", .question = kl_span_str("what"), .timeout_ms = 3000,
                               .loop = loop[0], .done = ask_done } };

    bus[0]->ask(bus[0], &a.op);
    for (int n = 0; n < 400 && !a.done; n++)
        kl_env_sim_run(sim, 20);
    ck_assert(a.done);
    return a.op;
}

START_TEST(a_question_is_answered_refused_at_once_or_waited_for_in_vain)
{
    struct kl_bus_service s = { .subject = "s", .loop = loop[1], .question = question, .ctx = bus[1] };
    struct kl_bus_ask     a = ask();

    ck_assert_int_eq(a.code, KL_EAGAIN);
    bus[1]->serve(bus[1], &s);
    a = ask();
    ck_assert_int_eq(a.code, KL_OK);
    ck_assert(kl_span_eq(kl_span(a.answer, a.answer_size), kl_span_str("what")));
    free(a.answer);
    kl_env_sim_pause(sim, env[1], true);               /* it hangs: whoever asks finds out by waiting */
    a = ask();
    ck_assert_int_eq(a.code, KL_ETIMEOUT);
    kl_env_sim_pause(sim, env[1], false);
    kl_env_sim_run(sim, 1000);
    bus[1]->unserve(bus[1], &s);
    a = ask();
    ck_assert_int_eq(a.code, KL_EAGAIN);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libkoal/bus/bus_sim");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, each_record_is_in_the_log_once_whatever_was_lost_and_a_reader_sees_all_of_it_in_order,
                        0, 5);
    tcase_add_test(t, a_reader_is_told_of_what_was_purged_and_of_a_stream_made_anew);
    tcase_add_test(t, a_watch_ends_with_the_last_value_although_it_was_cut_off_while_it_changed);
    tcase_add_test(t, a_question_is_answered_refused_at_once_or_waited_for_in_vain);
    suite_add_tcase(s, t);
    return run_suite(s);
}
