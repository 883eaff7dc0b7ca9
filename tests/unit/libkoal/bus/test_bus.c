/*
 * libkoal/bus: one suite over the local bus, really and simulated, and over NATS.
 */
#include "world.h"

#include <nats/nats.h>

static void open_world(void)
{
    /* The fixture does not know the loop's index: each test says which world it is in. */
}

static void close_world(void) { world_close(); }

/* False where there is no nats-server to test with; says so. */
static bool enter_world(int kind)
{
    world_open((enum world_kind)kind);
    if (kind == NATS) {
        if (server_program() == NULL) {
            fprintf(stderr, "SKIPPED: no nats-server on this machine; the bus over NATS is "
                            "NOT tested\n");
            return false;
        }
        server_start();
    }
    bus_open();
    return true;
}
#define ENTER(kind) do { if (!enter_world(kind)) return; } while (0)

/* ---- the log ---- */

struct burst { struct kl_bus_append_wait a[300]; char text[300][16]; };

static void burst_issue(void *arg)
{
    struct burst *b = arg;

    for (unsigned i = 0; i < 300; i++) {
        struct kl_bus_append *op = &b->a[i].op;

        snprintf(b->text[i], sizeof b->text[i], "record %u", i);
        *op = (struct kl_bus_append){ .partition = i % PARTITIONS, .loop = w.loop,
                                      .record = kl_span_str(b->text[i]),
                                      .done = kl_bus_append_over };
        snprintf(op->id, sizeof op->id, "burst-%u", i);
        w.bus->append(w.bus, op);
    }
}

START_TEST(appends_of_a_partition_land_in_the_order_issued_and_are_read_in_it)
{
    struct burst *b = calloc(1, sizeof *b);
    struct tape   t;

    ENTER(_i);
    on_loop(burst_issue, b);
    for (unsigned i = 0; i < 300; i++) {
        wait_for(&b->a[i].done, 1);
        ck_assert_msg(b->a[i].op.code == KL_OK, "%s", b->a[i].op.err.text);
        ck_assert_uint_eq(b->a[i].op.seq, i / PARTITIONS + 1);
        ck_assert(!b->a[i].op.duplicate);
        ck_assert_uint_eq(b->a[i].op.incarnation, b->a[i % PARTITIONS].op.incarnation);
    }
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        tape_open(&t, p, 1);
        wait_for(&t.count, 100);
        wait_for(&t.caught_up, 1);
        for (unsigned k = 0; k < 100; k++) {
            ck_assert_uint_eq(t.at[k].seq, k + 1);
            ck_assert_uint_eq(t.at[k].incarnation, b->a[p].op.incarnation);
            ck_assert_str_eq(t.at[k].text, b->text[k * PARTITIONS + p]);
        }
        ck_assert_uint_eq(atomic_load(&t.caught_up_at), 100);
        tape_close(&t);
    }
    free(b);
}
END_TEST

START_TEST(reader_begins_at_exactly_the_sequence_asked_for)
{
    struct tape t;

    ENTER(_i);
    for (int i = 0; i < 10; i++)
        appended(1, "x");
    tape_open(&t, 1, 8);
    wait_for(&t.caught_up, 1);
    ck_assert_uint_eq(t.count, 3);
    ck_assert_uint_eq(t.at[0].seq, 8);
    tape_close(&t);
}
END_TEST

START_TEST(reader_of_an_empty_log_is_caught_up_and_then_hears_what_comes)
{
    struct tape t;

    ENTER(_i);
    tape_open(&t, 0, 1);
    wait_for(&t.caught_up, 1);
    ck_assert_uint_eq(t.count, 0);
    ck_assert_uint_eq(atomic_load(&t.caught_up_at), 0);
    appended(1, "not mine");
    for (unsigned i = 1; i <= 20; i++) {
        appended(0, "mine");
        wait_for(&t.count, i);
        ck_assert_uint_eq(t.at[i - 1].seq, i);
    }
    wait_for(&t.caught_up, 2);
    ck_assert_uint_eq(t.broken, 0);
    tape_close(&t);
    appended(0, "after");
    settle(50);
    ck_assert_uint_eq(t.count, 20);
}
END_TEST

START_TEST(repeat_under_one_id_is_one_record)
{
    struct kl_bus_append first, again, other;

    ENTER(_i);
    first = append(0, "once", "writer-1");
    again = append(0, "once", "writer-1");
    other = append(1, "once", "writer-1");
    ck_assert_int_eq(first.code, KL_OK);
    ck_assert(!first.duplicate);
    ck_assert_int_eq(again.code, KL_OK);
    ck_assert(again.duplicate);
    ck_assert_uint_eq(again.seq, first.seq);
    ck_assert(!other.duplicate);                       /* an id is a partition's */
    ck_assert_uint_eq(info(0).last_seq, 1);
    ck_assert(!append(0, "no id", "").duplicate);
    ck_assert(!append(0, "no id", "").duplicate);
}
END_TEST

START_TEST(unfit_records_are_refused_with_words)
{
    char *big = calloc(1, KL_BUS_MESSAGE_MAX + 1);
    struct kl_bus_append a;

    ENTER(_i);
    a = append(0, "", "");
    ck_assert_int_eq(a.code, KL_EINVAL);
    a = append(PARTITIONS, "x", "");
    ck_assert_int_eq(a.code, KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(a.err.text, "partition 3"));
    a = append_bytes(0, kl_span(big, KL_BUS_MESSAGE_MAX + 1), "");
    ck_assert_int_eq(a.code, KL_ELIMIT);
    a = append_bytes(0, kl_span(big, KL_BUS_MESSAGE_MAX), "");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    free(big);
}
END_TEST

START_TEST(info_says_what_a_partition_holds)
{
    struct kl_bus_info before, after, purged;

    ENTER(_i);
    before = info(2);
    ck_assert_msg(before.code == KL_OK, "%s", before.err.text);
    ck_assert_uint_eq(before.first_seq, before.last_seq + 1);
    for (int i = 0; i < 5; i++)
        appended(2, "some bytes");
    after = info(2);
    ck_assert_uint_eq(after.first_seq, 1);
    ck_assert_uint_eq(after.last_seq, 5);
    ck_assert_uint_ge(after.size_bytes, 50);
    ck_assert_uint_eq(after.incarnation, before.incarnation);
    ck_assert_uint_gt(after.incarnation, 1000000000000000000u);
    purge(2, 3);
    purged = info(2);
    ck_assert_uint_eq(purged.first_seq, 4);
    ck_assert_uint_eq(purged.last_seq, 5);
    ck_assert_uint_lt(purged.size_bytes, after.size_bytes);
    purge(2, 5);
    purged = info(2);
    ck_assert_uint_eq(purged.first_seq, 6);
    ck_assert_uint_eq(purged.last_seq, 5);
    ck_assert_uint_eq(appended(2, "goes on"), 6);
}
END_TEST

START_TEST(reading_what_was_purged_breaks_and_says_where_the_log_begins)
{
    struct tape t;
    uint64_t incarnation;

    ENTER(_i);
    for (int i = 0; i < 10; i++)
        appended(0, "x");
    incarnation = info(0).incarnation;
    purge(0, 6);
    tape_open(&t, 0, 3);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ENOENT);
    ck_assert_uint_eq(t.first_seq, 7);
    ck_assert_uint_eq(t.incarnation, incarnation);
    ck_assert_uint_eq(t.count, 0);
    tape_close(&t);
    tape_open(&t, 0, 7);
    wait_for(&t.caught_up, 1);
    ck_assert_uint_eq(t.count, 4);
    ck_assert_uint_eq(t.broken, 0);
    tape_close(&t);
}
END_TEST

START_TEST(reading_past_the_end_is_a_rollback)
{
    struct tape t;

    ENTER(_i);
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 9);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_uint_eq(t.count, 0);
    tape_close(&t);
}
END_TEST

START_TEST(what_was_acked_is_there_after_a_restart)
{
    struct kl_bus_append first, more;
    struct tape t;

    ENTER(_i);
    first = append(0, "before", "id-1");
    appended(0, "before, too");
    purge(0, 1);
    bus_reopen();
    more = append(0, "before, too", "id-1");           /* an id is remembered across it */
    ck_assert_msg(more.code == KL_OK, "%s", more.err.text);
    ck_assert(more.duplicate);
    ck_assert_uint_eq(more.seq, first.seq);
    ck_assert_uint_eq(more.incarnation, first.incarnation);
    ck_assert_uint_eq(appended(0, "after"), 3);
    tape_open(&t, 0, 2);
    wait_for(&t.count, 2);
    ck_assert_str_eq(t.at[0].text, "before, too");
    ck_assert_str_eq(t.at[1].text, "after");
    tape_close(&t);
}
END_TEST

START_TEST(a_full_log_refuses_and_a_purge_makes_room)
{
    char *bytes = calloc(1, 64 << 10);
    struct kl_bus_append a;
    unsigned count = 0;

    world_open((enum world_kind)_i);
    w.options.log_bytes_max = w.nats.stream_bytes_max = 2 << 20;
    if (_i == NATS) {
        if (server_program() == NULL)
            return;
        server_start();
    }
    bus_open();
    while ((a = append_bytes(0, kl_span(bytes, 64 << 10), "")).code == KL_OK)
        ck_assert_uint_lt(count++, 100);
    ck_assert_msg(a.code == KL_ELIMIT, "%s", a.err.text);
    ck_assert_uint_gt(count, 20);
    ck_assert(w.bus->healthy(w.bus, &err));
    purge(0, count);
    a = append_bytes(0, kl_span(bytes, 64 << 10), "");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.seq, count + 1);
    free(bytes);
}
END_TEST

START_TEST(a_log_filled_by_one_burst_is_emptied_by_a_purge)
{
    enum { COUNT = 40 };
    char *bytes = calloc(1, 64 << 10);
    struct kl_bus_append_wait *a = calloc(COUNT, sizeof *a);
    struct kl_bus_append again;
    unsigned well = 0;

    world_open((enum world_kind)_i);
    w.options.log_bytes_max = 2 << 20;
    bus_open();
    for (unsigned i = 0; i < COUNT; i++) {
        a[i].op = (struct kl_bus_append){ .loop = w.loop, .record = kl_span(bytes, 64 << 10),
                                          .done = kl_bus_append_over };
        w.bus->append(w.bus, &a[i].op);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(&a[i].done, 1);
        well += a[i].op.code == KL_OK;
    }
    ck_assert_uint_gt(well, 20);
    ck_assert_uint_lt(well, COUNT);
    purge(0, well);
    for (unsigned i = 0; i < 10; i++) {
        again = append_bytes(0, kl_span(bytes, 64 << 10), "");
        ck_assert_msg(again.code == KL_OK, "%s", again.err.text);
    }
    free(a);
    free(bytes);
}
END_TEST

/* Enough to be read from the segments again, not from memory. */
START_TEST(a_long_log_is_read_back_whole_and_in_order)
{
    enum { COUNT = 400 };
    char *bytes = calloc(1, 64 << 10);
    struct kl_bus_append_wait *a = calloc(COUNT, sizeof *a);
    struct tape t;

    ENTER(_i);
    for (unsigned i = 0; i < COUNT; i++) {
        a[i].op = (struct kl_bus_append){ .partition = i % 2, .loop = w.loop,
                                          .record = kl_span(bytes, 60000 + i),
                                          .done = kl_bus_append_over };
        w.bus->append(w.bus, &a[i].op);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        wait_for(&a[i].done, 1);
        ck_assert_msg(a[i].op.code == KL_OK, "%s", a[i].op.err.text);
    }
    tape_open(&t, 1, 1);
    wait_for(&t.count, COUNT / 2);
    wait_for(&t.caught_up, 1);
    for (unsigned k = 0; k < COUNT / 2; k++) {
        ck_assert_uint_eq(t.at[k].seq, k + 1);
        ck_assert_uint_eq(t.at[k].size, 60000 + 2 * k + 1);
    }
    tape_close(&t);
    free(a);
    free(bytes);
}
END_TEST

/* ---- keys ---- */

START_TEST(compare_and_set_loses_to_whoever_was_first)
{
    struct kl_bus_kv a, b;

    ENTER(_i);
    a = kv(KL_BUS_KV_GET, "lease.3", NULL, 0);
    ck_assert_int_eq(a.code, KL_ENOENT);
    a = kv(KL_BUS_KV_PUT, "lease.3", "mine", 0);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    b = kv(KL_BUS_KV_PUT, "lease.3", "theirs", 0);
    ck_assert_msg(b.code == KL_EEXIST, "%d %s", b.code, b.err.text);
    b = kv(KL_BUS_KV_PUT, "lease.3", "mine still", a.revision);
    ck_assert_int_eq(b.code, KL_OK);
    ck_assert_uint_gt(b.revision, a.revision);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "lease.3", "stale", a.revision).code, KL_EEXIST);
    ck_assert_int_eq(kv(KL_BUS_KV_DELETE, "lease.3", NULL, a.revision).code, KL_EEXIST);
    a = kv(KL_BUS_KV_GET, "lease.3", NULL, 0);
    ck_assert_int_eq(a.code, KL_OK);
    ck_assert_uint_eq(a.revision, b.revision);
    ck_assert_uint_eq(a.got_size, 10);
    ck_assert_int_eq(memcmp(a.got, "mine still", 10), 0);
    free(a.got);
    b = kv(KL_BUS_KV_PUT, "lease.3", "whatever", UINT64_MAX);
    ck_assert_int_eq(b.code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_DELETE, "lease.3", NULL, b.revision).code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_GET, "lease.3", NULL, 0).code, KL_ENOENT);
    a = kv(KL_BUS_KV_PUT, "lease.3", "anew", 0);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_gt(a.revision, b.revision);
    bus_reopen();
    b = kv(KL_BUS_KV_GET, "lease.3", NULL, 0);
    ck_assert_msg(b.code == KL_OK, "%s", b.err.text);
    ck_assert_uint_eq(b.revision, a.revision);
    free(b.got);
}
END_TEST

START_TEST(of_many_who_want_one_key_one_gets_it)
{
    struct kl_bus_kv_wait a[20];
    unsigned won = 0;

    ENTER(_i);
    for (int i = 0; i < 20; i++) {
        a[i] = (struct kl_bus_kv_wait){ .op = { .kind = KL_BUS_KV_PUT, .key = "one", .expect = 0,
                                                .value = kl_span_str("v"), .loop = w.loop,
                                                .done = kl_bus_kv_over } };
        w.bus->kv(w.bus, &a[i].op);
    }
    for (int i = 0; i < 20; i++) {
        wait_for(&a[i].done, 1);
        won += a[i].op.code == KL_OK;
        ck_assert_msg(a[i].op.code == KL_OK || a[i].op.code == KL_EEXIST, "%s", a[i].op.err.text);
    }
    ck_assert_uint_eq(won, 1);
}
END_TEST

START_TEST(unfit_keys_and_values_are_refused)
{
    char *big = calloc(1, KL_BUS_VALUE_MAX + 2);

    ENTER(_i);
    memset(big, 'x', KL_BUS_VALUE_MAX + 1);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a key", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a*", "v", 0).code, KL_EINVAL);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "big", big, 0).code, KL_ELIMIT);
    big[KL_BUS_VALUE_MAX] = '\0';
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "big", big, 0).code, KL_OK);
    free(big);
}
END_TEST

struct watched { struct kl_bus_watch watch; _Atomic unsigned count, current; char text[64][64]; };

static void watched_change(struct kl_bus_watch *watch, const char *key, struct kl_span value,
                           uint64_t revision)
{
    struct watched *x = watch->ctx;
    unsigned n = atomic_load(&x->count);

    if (strncmp(key, "making.", 7) == 0 || strcmp(key, "creating") == 0)       /* the bus's own */
        return;
    ck_assert_uint_lt(n, 64);
    ck_assert_uint_gt(revision, 0);
    if (value.at == NULL)
        snprintf(x->text[n], 64, "%s gone", key);
    else
        snprintf(x->text[n], 64, "%s=%.*s", key, (int)value.size, (const char *)value.at);
    atomic_fetch_add(&x->count, 1);
}

static void watched_current(struct kl_bus_watch *watch)
{
    struct watched *x = watch->ctx;

    snprintf(x->text[atomic_load(&x->count)], 64, "current");
    atomic_fetch_add(&x->count, 1);
    atomic_fetch_add(&x->current, 1);
}

static void watch_begin(void *arg) { w.bus->watch(w.bus, &((struct watched *)arg)->watch); }
static void watch_end(void *arg) { w.bus->unwatch(w.bus, &((struct watched *)arg)->watch); }

START_TEST(watch_tells_the_present_state_then_each_change_in_order)
{
    static const char *const want[] = { "a.1=x", "a.2=y", "current", "a.3=z", "a.1 gone",
                                        "a.2=" };
    struct watched x = { .watch = { .prefix = "a.", .change = watched_change,
                                    .current = watched_current, .ctx = &x } };

    ENTER(_i);
    x.watch.loop = w.loop;
    kv(KL_BUS_KV_PUT, "a.1", "x", UINT64_MAX);
    kv(KL_BUS_KV_PUT, "a.2", "y", UINT64_MAX);
    kv(KL_BUS_KV_PUT, "b.1", "not mine", UINT64_MAX);
    on_loop(watch_begin, &x);
    wait_for(&x.current, 1);
    kv(KL_BUS_KV_PUT, "a.3", "z", UINT64_MAX);
    kv(KL_BUS_KV_DELETE, "a.1", NULL, UINT64_MAX);
    kv(KL_BUS_KV_PUT, "b.2", "nor this", UINT64_MAX);
    kv(KL_BUS_KV_PUT, "a.2", "", UINT64_MAX);          /* empty is not gone */
    wait_for(&x.count, 6);
    for (int i = 0; i < 6; i++)
        ck_assert_str_eq(x.text[i], want[i]);
    on_loop(watch_end, &x);
    kv(KL_BUS_KV_PUT, "a.9", "late", UINT64_MAX);
    settle(50);
    ck_assert_uint_eq(x.count, 6);
}
END_TEST

/* ---- requests ---- */

static struct kl_bus_question *kept;
static _Atomic unsigned kept_count;

static void serve_question(struct kl_bus_service *s, struct kl_bus_question *q)
{
    char text[64];

    (void)s;
    if (q->bytes.size == 4 && memcmp(q->bytes.at, "keep", 4) == 0) {
        kept = q;
        atomic_fetch_add(&kept_count, 1);
    } else if (q->bytes.size == 4 && memcmp(q->bytes.at, "fail", 4) == 0) {
        w.bus->answer(w.bus, q, KL_EINVAL, kl_span_str("that cannot be"));
    } else if (q->bytes.size == 3 && memcmp(q->bytes.at, "big", 3) == 0) {
        void *big = calloc(1, KL_BUS_MESSAGE_MAX);

        w.bus->answer(w.bus, q, KL_OK, kl_span(big, KL_BUS_MESSAGE_MAX));
        free(big);
    } else if (q->bytes.size == 4 && memcmp(q->bytes.at, "take", 4) == 0) {
        struct kl_buf b = { 0 };

        kl_buf_adds(&b, "taken");
        kl_bus_answer_take(w.bus, q, &b);
        ck_assert_ptr_null(b.at);
    } else if (q->bytes.size == 4 && memcmp(q->bytes.at, "much", 4) == 0) {
        struct kl_buf b = { 0 };

        kl_buf_reserve(&b, KL_BUS_MESSAGE_MAX + 1);
        memset(b.at, 'x', KL_BUS_MESSAGE_MAX + 1);
        b.size = KL_BUS_MESSAGE_MAX + 1;
        kl_bus_answer_take(w.bus, q, &b);
    } else {
        snprintf(text, sizeof text, "re: %.*s", (int)q->bytes.size, (const char *)q->bytes.at);
        w.bus->answer(w.bus, q, KL_OK, kl_span_str(text));
    }
}

static void serve_begin(void *arg) { w.bus->serve(w.bus, arg); }
static void serve_end(void *arg) { w.bus->unserve(w.bus, arg); }

START_TEST(a_question_gets_its_answer_or_the_words_why_not)
{
    struct kl_bus_service s = { .subject = "ingestor.1.select", .question = serve_question };
    struct kl_bus_ask a;

    ENTER(_i);
    s.loop = w.loop;
    kept_count = 0;
    on_loop(serve_begin, &s);
    settle(50);
    a = ask("ingestor.1.select", "up", 5000);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.answer_size, 6);
    ck_assert_int_eq(memcmp(a.answer, "re: up", 6), 0);
    free(a.answer);
    a = ask("ingestor.1.select", "fail", 5000);
    ck_assert_int_eq(a.code, KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(a.err.text, "that cannot be"));
    a = ask("ingestor.1.select", "big", 5000);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.answer_size, KL_BUS_MESSAGE_MAX);
    free(a.answer);
    a = ask("ingestor.1.select", "take", 5000);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert(a.answer_size == 5 && memcmp(a.answer, "taken", 5) == 0);
    free(a.answer);
    a = ask("ingestor.1.select", "much", 5000);
    ck_assert_int_eq(a.code, KL_ELIMIT);
    a = ask("ingestor.2.select", "up", 500);
    ck_assert_msg(a.code == KL_EAGAIN || a.code == KL_ETIMEOUT, "%s", a.err.text);
    a = ask("ingestor.1.select", "keep", 100);
    ck_assert_int_eq(a.code, KL_ETIMEOUT);
    wait_for(&kept_count, 1);
    w.bus->answer(w.bus, kept, KL_OK, kl_span_str("too late"));
    a = ask("ingestor.1.select", "again", 5000);
    ck_assert_int_eq(a.code, KL_OK);
    free(a.answer);
    on_loop(serve_end, &s);
    settle(50);
    a = ask("ingestor.1.select", "up", 500);
    ck_assert_msg(a.code == KL_EAGAIN || a.code == KL_ETIMEOUT, "%s", a.err.text);
}
END_TEST

START_TEST(closing_completes_what_is_under_way)
{
    struct kl_bus_service s = { .subject = "slow", .question = serve_question };
    struct kl_bus_ask_wait a = { .op = { .subject = "slow", .question = kl_span_str("keep"),
                                         .timeout_ms = 60000, .done = kl_bus_ask_over } };
    struct kl_bus_append_wait late = { .op = { .record = kl_span_str("late"),
                                               .done = kl_bus_append_over } };
    struct tape t;

    ENTER(_i);
    s.loop = a.op.loop = late.op.loop = w.loop;
    kept_count = 0;
    tape_open(&t, 0, 1);
    on_loop(serve_begin, &s);
    settle(50);
    w.bus->ask(w.bus, &a.op);
    wait_for(&kept_count, 1);
    w.bus->close(w.bus);
    wait_for(&a.done, 1);
    ck_assert_int_eq(a.op.code, KL_ECANCELED);
    w.bus->append(w.bus, &late.op);
    wait_for(&late.done, 1);
    ck_assert_int_eq(late.op.code, KL_ECANCELED);
    w.bus->answer(w.bus, kept, KL_OK, kl_span_str("nobody listens"));
    on_loop(serve_end, &s);
    on_loop(tape_end, &t);
    free(t.at);
    w.env->sched->loop_free(w.loop);
    w.bus->free(w.bus);
    w.bus = NULL;
}
END_TEST

/* ---- only the local bus ---- */

START_TEST(purged_segments_are_deleted)
{
    char *bytes = calloc(1, 32 << 10), path[100];
    uint64_t number = 1, size;
    struct kl_env_dir *log;
    struct kl_env_view *view;

    (void)path;
    world_open((enum world_kind)_i);
    w.options.segment_bytes = 64 << 10;
    bus_open();
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(append_bytes(0, kl_span(bytes, 32 << 10), "").code, KL_OK);
    appended(1, "pins the last segments only");
    purge(0, 20);
    ck_assert_int_eq(w.dir->enter(w.dir, "log", false, &log, &err), KL_OK);
    for (; number < 100; number++) {
        snprintf(path, sizeof path, "%016llx.seg", (unsigned long long)number);
        if (log->view(log, path, &view, &size, &err) == KL_OK)
            break;
    }
    log->view_close(view);
    log->leave(log);
    ck_assert_uint_ge(number, 8);
    bus_reopen();
    ck_assert_uint_eq(info(0).first_seq, 21);
    ck_assert_uint_eq(info(1).first_seq, 1);
    ck_assert_uint_eq(appended(0, "next"), 21);
    free(bytes);
}
END_TEST

START_TEST(an_id_is_remembered_for_two_minutes_and_forgotten_in_the_end)
{
    uint64_t seq;

    world_open(SIM_LOCAL);
    bus_open();
    seq = append(0, "x", "id").seq;
    settle(119 * 1000);
    ck_assert(append(0, "x", "id").duplicate);
    bus_reopen();                                      /* a restart makes it no younger */
    settle(500);
    ck_assert_uint_eq(append(0, "x", "id").seq, seq);
    settle(10 * 1000);
    ck_assert(!append(0, "x", "id").duplicate);
}
END_TEST

static void damage(const char *name, uint64_t offset, size_t size)
{
    struct kl_env_dir *log;
    struct kl_env_file *f;
    void *bytes;
    size_t have;

    ck_assert_int_eq(w.dir->enter(w.dir, "log", false, &log, &err), KL_OK);
    ck_assert_int_eq(log->read(log, name, 64 << 20, &bytes, &have, &err), KL_OK);
    for (size_t i = 0; i < size && offset + i < have; i++)
        ((uint8_t *)bytes)[offset + i] ^= 0x5a;
    ck_assert_int_eq(log->create(log, "damaged.tmp", &f, &err), KL_OK);
    ck_assert_int_eq(log->append(f, bytes, have, &err), KL_OK);
    ck_assert_int_eq(log->sync(f, &err), KL_OK);
    ck_assert_int_eq(log->publish(f, name, &err), KL_OK);
    log->close(f);
    log->leave(log);
    free(bytes);
}

START_TEST(damage_before_what_was_acked_later_is_named)
{
    world_open((enum world_kind)_i);
    bus_open();
    for (int i = 0; i < 5; i++)
        appended(0, "a record of some length, so that there is something to damage");
    bus_close();
    damage("0000000000000001.seg", 64 + 32 + 40 + 7, 1);               /* in the first record */
    ck_assert_int_eq(kl_bus_local_open(w.env, w.dir, &w.options, &w.bus, &err), KL_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "0000000000000001.seg is damaged at byte 96"));
    w.bus = NULL;
}
END_TEST

START_TEST(damage_in_an_old_segment_breaks_its_reader_at_that_record)
{
    struct tape t;

    world_open((enum world_kind)_i);
    bus_open();
    for (int i = 0; i < 5; i++)
        appended(0, "a record of some length, so that there is something to damage");
    bus_reopen();                                      /* what was the newest segment is no more */
    appended(0, "more");
    bus_close();
    damage("0000000000000001.seg", 64 + 2 * (32 + 40 + 61) + 32 + 40 + 7, 1);
    bus_open();
    tape_open(&t, 0, 1);
    wait_for(&t.broken, 1);
    ck_assert_uint_eq(t.count, 2);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(t.err.text, "record 3"));
    tape_close(&t);
}
END_TEST

START_TEST(another_number_of_partitions_is_refused)
{
    world_open((enum world_kind)_i);
    bus_open();
    bus_close();
    w.options.partitions = 7;
    ck_assert_int_eq(kl_bus_local_open(w.env, w.dir, &w.options, &w.bus, &err), KL_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "made for 3 partitions"));
    w.bus = NULL;
}
END_TEST

START_TEST(with_an_interval_acks_do_not_wait_for_the_disk_which_is_synced_in_time)
{
    uint64_t calls;

    world_open(SIM_LOCAL);
    w.options.fsync_ms = 100;
    bus_open();
    calls = kl_env_disk_sim_calls(w.disk);
    appended(0, "a");
    ck_assert_uint_eq(kl_env_disk_sim_calls(w.disk), calls + 1);       /* the write alone */
    settle(150);
    ck_assert_uint_eq(kl_env_disk_sim_calls(w.disk), calls + 2);       /* and its sync */
    kl_env_disk_sim_fail(w.disk, 1, KL_EIO);
    ck_assert_int_eq(append(0, "b", "").code, KL_EIO);
    ck_assert(!w.bus->healthy(w.bus, &err));
}
END_TEST

START_TEST(a_failed_sync_is_final)
{
    world_open(SIM_LOCAL);
    bus_open();
    appended(0, "a");
    kl_env_disk_sim_fail(w.disk, 2, KL_EIO);           /* the write succeeds, its sync does not */
    ck_assert_int_eq(append(0, "b", "").code, KL_EIO);
    ck_assert_int_eq(append(0, "c", "").code, KL_EIO);
    ck_assert(!w.bus->healthy(w.bus, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "until a restart"));
    ck_assert_uint_eq(info(0).last_seq, 1);
}
END_TEST

START_TEST(a_full_disk_refuses_and_room_makes_it_go_on)
{
    struct kl_bus_append a;
    struct tape t;

    world_open(SIM_LOCAL);
    bus_open();
    appended(0, "a");
    kl_env_disk_sim_room(w.disk, 50);
    a = append(0, "does not fit there", "id");
    ck_assert_msg(a.code == KL_ELIMIT, "%s", a.err.text);
    a = append(0, "nor does this", "");
    ck_assert_msg(a.code == KL_ELIMIT, "%s", a.err.text);
    kl_env_disk_sim_room(w.disk, UINT64_MAX);
    a = append(0, "now it does", "id");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert(!a.duplicate);
    ck_assert_uint_eq(a.seq, 2);
    bus_reopen();
    tape_open(&t, 0, 1);
    wait_for(&t.count, 2);
    ck_assert_str_eq(t.at[1].text, "now it does");
    tape_close(&t);
}
END_TEST

/* A killed process leaves its memory to the system; this process is not really killed, and must
 * not be blamed for what the simulated one held. */
void __lsan_disable(void) __attribute__((weak));

static void open_mortal_world(uint64_t seed)
{
    if (__lsan_disable != NULL)
        __lsan_disable();
    world_open(SIM_LOCAL);
    kl_env_sim_free(w.sim);
    w.sim = kl_env_sim_new(seed);
    w.env = kl_env_sim_env(w.sim);
}

enum { CRASH_OPS = 400 };
struct crash_op { struct kl_bus_append op; _Atomic unsigned done; char text[40]; };
static struct crash_op *crash_ops;
static uint64_t crash_acked[PARTITIONS];               /* the highest sequence acked */
static unsigned crash_texts[PARTITIONS][CRASH_OPS + 1]; /* sequence -> op + 1 */

static void crash_done(struct kl_bus_append *op)
{
    struct crash_op *c = kl_container_of(op, struct crash_op, op);

    if (op->code == KL_OK) {
        unsigned *at = &crash_texts[op->partition][op->seq];

        ck_assert_uint_ge(op->seq, 1);
        ck_assert_msg(*at == 0, "two records under one sequence");
        *at = (unsigned)(c - crash_ops) + 1;
        if (op->seq > crash_acked[op->partition])
            crash_acked[op->partition] = op->seq;
    }
    atomic_store(&c->done, 1);
}

static void crash_issue(void *arg)
{
    unsigned *next = arg;
    unsigned count = 1 + (unsigned)(kl_env_sim_draw(w.sim) % 12);

    while (count-- > 0 && *next < CRASH_OPS) {
        struct crash_op *c = &crash_ops[*next];
        size_t size = 10 + kl_env_sim_draw(w.sim) % 20;
        uint32_t partition = (uint32_t)(kl_env_sim_draw(w.sim) % PARTITIONS);

        snprintf(c->text, sizeof c->text, "%03u%*s", *next, (int)size, "x");
        c->op = (struct kl_bus_append){ .partition = partition,
                                        .record = kl_span_str(c->text), .loop = w.loop,
                                        .done = crash_done };
        snprintf(c->op.id, sizeof c->op.id, "op-%u", *next);
        (*next)++;
        w.bus->append(w.bus, &c->op);
    }
}

/* Each record that was acked is read back, in its place; none that was read back is lost later. */
static void crash_check(unsigned read_before[PARTITIONS])
{
    struct tape t;

    for (uint32_t p = 0; p < PARTITIONS; p++) {
        struct kl_bus_info i = info(p);

        ck_assert_uint_ge(i.last_seq, crash_acked[p]);
        ck_assert_uint_ge(i.last_seq, read_before[p]);
        tape_open(&t, p, 1);
        wait_for(&t.caught_up, 1);
        ck_assert_uint_eq(t.broken, 0);
        ck_assert_uint_eq(t.count, i.last_seq);
        for (unsigned k = 0; k < t.count; k++) {
            ck_assert_uint_eq(t.at[k].seq, k + 1);
            if (crash_texts[p][k + 1] != 0)
                ck_assert_str_eq(t.at[k].text, crash_ops[crash_texts[p][k + 1] - 1].text);
            /* What was read is durable: it may not change under a later crash. */
            crash_texts[p][k + 1] = (unsigned)atoi(t.at[k].text) + 1;
        }
        read_before[p] = t.count;
        tape_close(&t);
    }
}

/* A process killed with its loops, files and bus; then the disk as a power cut, or none, left it */
static void die(bool power)
{
    if (__lsan_disable != NULL)
        __lsan_disable();
    kl_env_sim_kill_all(w.sim);
    if (power)
        kl_env_disk_sim_crash(w.disk, kl_env_sim_draw(w.sim));
    else
        kl_env_disk_sim_kill(w.disk);
    w.dir = kl_env_disk_sim_root(w.disk);
    w.bus = NULL;
}

START_TEST(with_an_interval_a_kill_loses_nothing_and_a_power_cut_only_the_end)
{
    struct tape t;
    unsigned acked = 0, left;

    open_mortal_world((uint64_t)_i);
    w.options.fsync_ms = 100;
    bus_open();
    for (int life = 0; life < 4; life++) {
        char text[16];

        for (unsigned n = 5 + (unsigned)_i % 7; n > 0; n--) {
            snprintf(text, sizeof text, "%u", ++acked);
            ck_assert_uint_eq(appended(0, text), acked);
            settle((int64_t)(kl_env_sim_draw(w.sim) % 40));
        }
        die(life % 2 == 1);
        bus_open();
        left = (unsigned)info(0).last_seq;
        ck_assert_uint_le(left, acked);
        if (life % 2 == 0)
            ck_assert_uint_eq(left, acked);
        tape_open(&t, 0, 1);
        wait_for(&t.caught_up, 1);
        ck_assert_uint_eq(t.count, left);
        for (unsigned i = 0; i < left; i++)
            ck_assert_int_eq(atoi(t.at[i].text), (int)i + 1);
        tape_close(&t);
        acked = left;
    }
}
END_TEST

START_TEST(with_an_interval_a_hole_in_what_was_not_synced_ends_the_log_there)
{
    open_mortal_world(1);
    w.options.fsync_ms = 60000;
    bus_open();
    for (int i = 0; i < 5; i++)
        appended(0, "a record of some length, so that there is something to damage");
    die(false);
    damage("0000000000000001.seg", 64 + 2 * (32 + 40 + 61) + 32 + 40 + 7, 1);
    bus_open();
    ck_assert_uint_eq(info(0).last_seq, 2);
    ck_assert_uint_eq(appended(0, "goes on"), 3);
}
END_TEST

START_TEST(every_acked_record_survives_crashes_at_any_point)
{
    unsigned next = 0, read_before[PARTITIONS] = { 0 };

    open_mortal_world((uint64_t)_i);
    w.options.segment_bytes = 1;                       /* the least there is */
    memset(crash_acked, 0, sizeof crash_acked);
    memset(crash_texts, 0, sizeof crash_texts);
    crash_ops = calloc(CRASH_OPS, sizeof *crash_ops);
    for (int life = 0; life < 6; life++) {
        unsigned long steps = kl_env_sim_draw(w.sim) % 300;
        enum kl_code code;

        if (life == 3)                                 /* a disk that fails somewhere in it */
            kl_env_disk_sim_fail(w.disk, 1 + kl_env_sim_draw(w.sim) % 40, KL_EIO);
        code = kl_bus_local_open(w.env, w.dir, &w.options, &w.bus, &err);
        if (code == KL_OK) {
            w.loop = w.env->sched->loop_new(w.env->sched, "test", 1000);
            if (life != 3)
                crash_check(read_before);
            for (unsigned long i = 0; i < steps; i++) {
                if (kl_env_sim_draw(w.sim) % 6 == 0)
                    on_loop(crash_issue, &next);
                kl_env_sim_step(w.sim, kl_env_mono_ns(w.env));
            }
        } else {
            ck_assert_msg(life == 3, "%s", err.text);
        }
        die(kl_env_sim_draw(w.sim) % 4 != 0);
    }
    bus_open();
    crash_check(read_before);
    free(crash_ops);
}
END_TEST

/* ---- only over NATS ---- */

static bool has_server(void)
{
    world_open(NATS);
    if (server_program() != NULL)
        return true;
    fprintf(stderr, "SKIPPED: no nats-server on this machine; the bus over NATS is NOT tested\n");
    return false;
}

START_TEST(without_a_server_operations_fail_with_words_until_there_is_one)
{
    struct kl_bus_append a;
    struct kl_bus_kv k;
    struct tape t;
    char   secret[96];

    if (!has_server())
        return;
    snprintf(secret, sizeof secret, "nats://user:hush@127.0.0.1:%d", w.ports[0]);
    w.nats.url = secret;
    w.nats.op_timeout_ms = 600;
    bus_open();
    ck_assert(!w.bus->healthy(w.bus, &err));
    ck_assert_ptr_nonnull(strstr(err.text, w.url));
    a = append(0, "x", "id");
    ck_assert_int_eq(a.code, KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(a.err.text, w.url));
    ck_assert_ptr_null(strstr(a.err.text, "hush"));
    k = kv(KL_BUS_KV_GET, "a", NULL, 0);
    ck_assert_int_eq(k.code, KL_EAGAIN);
    ck_assert_ptr_nonnull(strstr(k.err.text, w.url));
    ck_assert_int_eq(info(0).code, KL_EAGAIN);
    ck_assert_int_eq(ask("nobody", "x", 300).code, KL_EAGAIN);
    tape_open(&t, 0, 1);
    server_start();
    for (int i = 0; !w.bus->healthy(w.bus, &err); i++) {
        ck_assert_msg(i < 200, "%s", err.text);
        usleep(50000);
    }
    for (int i = 0; (a = append(0, "y", "id-2")).code != KL_OK; i++)
        ck_assert_msg(i < 50, "%s", a.err.text);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "a", "b", 0).code, KL_OK);
    wait_for(&t.count, 1);
    ck_assert_str_eq(t.at[0].text, "y");
    tape_close(&t);
}
END_TEST

enum { LONG_RUN = 3000 };
struct run_op { struct kl_bus_append op; _Atomic unsigned done; char text[24]; unsigned tries; };
static struct run_op *run_ops;
static _Atomic unsigned run_done;

/* As the doorman does it: repeated under the same id until it is acked. */
static void run_over(struct kl_bus_append *op)
{
    struct run_op *r = kl_container_of(op, struct run_op, op);

    if (op->code == KL_OK) {
        atomic_store(&r->done, 1);
        atomic_fetch_add(&run_done, 1);
        return;
    }
    ck_assert_msg(op->code == KL_EAGAIN || op->code == KL_ETIMEOUT, "%d %s", op->code,
                  op->err.text);
    ck_assert_uint_lt(++r->tries, 1000);
    w.bus->append(w.bus, op);
}

static void run_issue(void *arg)
{
    unsigned *next = arg;

    for (unsigned i = 0; i < 10 && *next < LONG_RUN; i++, (*next)++) {
        struct run_op *r = &run_ops[*next];

        snprintf(r->text, sizeof r->text, "%u", *next);
        r->op = (struct kl_bus_append){ .partition = *next % PARTITIONS, .loop = w.loop,
                                        .record = kl_span_str(r->text), .done = run_over };
        snprintf(r->op.id, sizeof r->op.id, "run-%u", *next);
        w.bus->append(w.bus, &r->op);
    }
}

static void crowd_question(struct kl_bus_service *s, struct kl_bus_question *q)
{
    (void)s;
    w.bus->answer(w.bus, q, KL_OK, q->bytes);
}

START_TEST(a_server_killed_and_restarted_in_mid_run_costs_nothing_that_was_acked)
{
    struct kl_bus_service s = { .subject = "echo", .question = crowd_question };
    struct watched x = { .watch = { .prefix = "", .change = watched_change,
                                    .current = watched_current, .ctx = &x } };
    struct tape t[PARTITIONS];
    unsigned  next = 0;
    bool      seen[LONG_RUN] = { false };
    struct kl_bus_kv k;
    struct kl_bus_ask a;

    if (!has_server())
        return;
    server_start();
    bus_open();
    run_ops = calloc(LONG_RUN, sizeof *run_ops);
    run_done = 0;
    s.loop = x.watch.loop = w.loop;
    on_loop(serve_begin, &s);
    on_loop(watch_begin, &x);
    wait_for(&x.current, 1);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        tape_open(&t[p], p, 1);
    while (next < LONG_RUN) {
        on_loop(run_issue, &next);
        if (next == LONG_RUN / 3 || next == LONG_RUN / 3 * 2) {
            server_kill();
            usleep(next == LONG_RUN / 3 ? 300000 : 1500000);
            server_start();
        }
        usleep(1000);
    }
    wait_for(&run_done, LONG_RUN);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        wait_for(&t[p].count, LONG_RUN / PARTITIONS);
        settle(100);
        ck_assert_uint_eq(t[p].count, LONG_RUN / PARTITIONS);           /* and none twice */
        ck_assert_uint_eq(t[p].broken, 0);
        for (unsigned i = 0; i < t[p].count; i++) {
            unsigned n = (unsigned)atoi(t[p].at[i].text);

            ck_assert_uint_eq(t[p].at[i].seq, i + 1);
            ck_assert_uint_lt(n, LONG_RUN);
            ck_assert(!seen[n]);
            seen[n] = true;
        }
        tape_close(&t[p]);
    }
    for (unsigned i = 0; i < LONG_RUN; i++)
        ck_assert_msg(seen[i], "record %u was acked and is not there", i);
    for (int i = 0; (a = ask("echo", "still there?", 2000)).code != KL_OK; i++)
        ck_assert_msg(i < 20, "%s", a.err.text);
    free(a.answer);
    k = kv(KL_BUS_KV_PUT, "after", "x", UINT64_MAX);
    ck_assert_msg(k.code == KL_OK, "%s", k.err.text);
    wait_for(&x.count, 2);
    ck_assert_str_eq(x.text[1], "after=x");
    on_loop(watch_end, &x);
    on_loop(serve_end, &s);
    free(run_ops);
}
END_TEST

START_TEST(a_server_that_hangs_costs_time_and_no_more)
{
    struct kl_bus_append a;
    struct timespec from, to;

    if (!has_server())
        return;
    server_start();
    w.nats.op_timeout_ms = 700;
    bus_open();
    for (int i = 0; append(0, "before", "").code != KL_OK; i++)
        ck_assert_int_lt(i, 50);
    server_halt();
    a = append(0, "during", "id");
    ck_assert_msg(a.code == KL_ETIMEOUT || a.code == KL_EAGAIN, "%d %s", a.code, a.err.text);
    ck_assert_ptr_nonnull(strstr(a.err.text, w.url));
    ck_assert_int_ne(info(0).code, KL_OK);
    ck_assert_int_ne(kv(KL_BUS_KV_PUT, "a", "b", 0).code, KL_OK);
    kill(w.servers[0], SIGCONT);
    for (int i = 0; (a = append(0, "during", "id")).code != KL_OK; i++)
        ck_assert_msg(i < 50, "%s", a.err.text);
    ck_assert_uint_eq(a.seq, 2);
    server_halt();
    clock_gettime(CLOCK_MONOTONIC, &from);
    bus_close();
    clock_gettime(CLOCK_MONOTONIC, &to);
    ck_assert_int_lt(to.tv_sec - from.tv_sec, 5);
}
END_TEST

static void servers_three(void)
{
    char *at = w.url;

    w.server_count = SERVERS_MAX;
    for (int i = 0; i < w.server_count; i++) {
        w.ports[i] = free_port();
        w.routes[i] = free_port();
        at += sprintf(at, "%snats://127.0.0.1:%d", i > 0 ? "," : "", w.ports[i]);
    }
    w.nats.log_replicas = 3;
}

/* Three servers, three replicas: of each partition the leader is lost at some time. */
START_TEST(with_three_replicas_the_loss_of_any_one_server_costs_nothing_that_was_acked)
{
    struct tape t[PARTITIONS];
    unsigned next = 0, waves = 0;
    bool     seen[LONG_RUN] = { false };
    struct kl_bus_append a;

    if (!has_server())
        return;
    servers_three();
    server_start();
    bus_open();
    for (uint32_t p = 0; p < PARTITIONS; p++)          /* until the cluster has elected itself */
        for (int i = 0; info(p).code != KL_OK; i++)
            ck_assert_msg(i < 20, "%s", info(p).err.text);
    run_ops = calloc(LONG_RUN, sizeof *run_ops);
    run_done = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        tape_open(&t[p], p, 1);
    for (; next < LONG_RUN; waves++) {
        on_loop(run_issue, &next);
        if (waves % 100 == 50)
            server_kill_one((int)(waves / 100 % 3));
        if (waves % 100 == 80) {                       /* back and caught up before the next goes */
            wait_for(&run_done, next);
            server_start_one((int)(waves / 100 % 3));
            usleep(3000000);
        }
        usleep(5000);
    }
    wait_for(&run_done, LONG_RUN);
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        unsigned all = LONG_RUN / PARTITIONS, at = 0;

        for (unsigned once = 0; once < all; at++) {    /* what was sent twice may be there twice */
            unsigned n;

            wait_for(&t[p].count, at + 1);
            n = (unsigned)atoi(t[p].at[at].text);
            ck_assert_uint_eq(t[p].at[at].seq, at + 1);
            ck_assert_uint_lt(n, LONG_RUN);
            ck_assert(seen[n] == t[p].at[at].repeat);
            once += !seen[n];
            seen[n] = true;
        }
        ck_assert_msg(t[p].broken == 0, "%s", t[p].err.text);
        tape_close(&t[p]);
    }
    a = append(0, "goes on", "");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    free(run_ops);
}
END_TEST

/* Its place among the servers. */
static int leader_of(uint32_t partition)
{
    char            stream[32];
    natsConnection *nc = NULL;
    jsCtx          *js = NULL;
    jsStreamInfo   *si = NULL;
    int             leader = -1;

    snprintf(stream, sizeof stream, "KOA_L_%s_%04u", w.nats.cell, partition);
    ck_assert_int_eq(natsConnection_ConnectTo(&nc, w.url), NATS_OK);
    ck_assert_int_eq(natsConnection_JetStream(&js, nc, NULL), NATS_OK);
    ck_assert_int_eq(js_GetStreamInfo(&si, js, stream, NULL, NULL), NATS_OK);
    ck_assert_ptr_nonnull(si->Cluster);
    ck_assert_int_eq(sscanf(si->Cluster->Leader, "s%d", &leader), 1);
    jsStreamInfo_Destroy(si);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
    return leader;
}

/* Its connections stay open, and so do ours to others: only silence tells. */
START_TEST(what_was_sent_to_a_leader_that_stands_still_is_sent_again_to_the_next)
{
    struct kl_bus_append a;
    int                  leader;

    if (!has_server())
        return;
    servers_three();
    server_start();
    w.nats.op_timeout_ms = 60000;                      /* its ack would be waited for as long */
    bus_open();
    a = append(0, "before", "id-1");
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    leader = leader_of(0);
    kill(w.servers[leader], SIGSTOP);
    a = append(0, "after", "id-2");
    kill(w.servers[leader], SIGCONT);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    ck_assert_uint_eq(a.seq, 2);
}
END_TEST

static struct kl_bus_info info_of(struct kl_bus *bus, uint32_t partition)
{
    struct kl_bus_info i;
    struct kl_bus     *own = w.bus;

    w.bus = bus;
    for (int tries = 0; (i = info(partition)).code != KL_OK; tries++)
        ck_assert_msg(tries < 20, "%s", i.err.text);
    w.bus = own;
    return i;
}

/* What a server restarts from is not always what it said before. */
START_TEST(of_two_who_make_a_stream_at_once_both_see_one_incarnation_for_ever)
{
    struct kl_bus_info_wait ops[2][PARTITIONS];
    struct kl_bus *both[2];
    uint64_t       seen[PARTITIONS];

    if (!has_server())
        return;
    servers_three();
    server_start();
    w.nats.op_timeout_ms = 60000;                      /* the cluster elects itself meanwhile */
    bus_open();
    both[0] = w.bus;
    ck_assert_int_eq(kl_bus_nats_open(w.env, &w.nats, &both[1], &err), KL_OK);
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (int k = 0; k < 2; k++) {
            ops[k][p] = (struct kl_bus_info_wait){ .op = { .partition = p, .loop = w.loop,
                                                           .done = kl_bus_info_over } };
            both[k]->info(both[k], &ops[k][p].op);
        }
    for (uint32_t p = 0; p < PARTITIONS; p++) {
        for (int k = 0; k < 2; k++) {
            wait_for(&ops[k][p].done, 1);
            ck_assert_msg(ops[k][p].op.code == KL_OK, "%s", ops[k][p].op.err.text);
        }
        seen[p] = ops[0][p].op.incarnation;
        ck_assert_uint_eq(seen[p], ops[1][p].op.incarnation);
    }
    for (int i = 0; i < w.server_count; i++) {
        server_kill_one(i);
        server_start_one(i);
        usleep(3000000);
        for (uint32_t p = 0; p < PARTITIONS; p++)
            for (int k = 0; k < 2; k++)
                ck_assert_uint_eq(info_of(both[k], p).incarnation, seen[p]);
    }
    both[1]->close(both[1]);
    both[1]->free(both[1]);
}
END_TEST

static void delete_stream(const char *name)
{
    natsConnection *nc = NULL;
    jsCtx *js = NULL;

    ck_assert_int_eq(natsConnection_ConnectTo(&nc, w.url), NATS_OK);
    ck_assert_int_eq(natsConnection_JetStream(&js, nc, NULL), NATS_OK);
    ck_assert_int_eq(js_DeleteStream(js, name, NULL, NULL), NATS_OK);
    jsCtx_Destroy(js);
    natsConnection_Destroy(nc);
}

START_TEST(a_stream_made_anew_under_a_reader_breaks_it_with_the_new_incarnation)
{
    struct kl_bus_append before, after;
    struct tape t;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 5; i++)
        before = append(0, "x", "");
    tape_open(&t, 0, 1);
    wait_for(&t.caught_up, 1);
    delete_stream("KOA_L_t_0000");
    for (int i = 0; (after = append(0, "y", "")).code != KL_OK; i++)
        ck_assert_msg(i < 20, "%s", after.err.text);
    ck_assert_uint_eq(after.seq, 1);
    ck_assert_uint_gt(after.incarnation, before.incarnation);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_uint_eq(t.incarnation, after.incarnation);
    ck_assert_uint_eq(t.first_seq, 1);
    ck_assert_uint_eq(t.count, 5);
    tape_close(&t);
    tape_open(&t, 0, 1);
    wait_for(&t.count, 1);
    ck_assert_uint_eq(t.at[0].incarnation, after.incarnation);
    tape_close(&t);
}
END_TEST

START_TEST(a_stream_made_anew_while_the_server_was_away_breaks_its_reader)
{
    struct kl_bus_append a;
    struct tape t;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 1);
    wait_for(&t.caught_up, 1);
    server_kill();                                     /* the reader sleeps through what follows */
    server_start();
    delete_stream("KOA_L_t_0000");
    for (int i = 0; (a = append(0, "y", "")).code != KL_OK; i++)
        ck_assert_msg(i < 20, "%s", a.err.text);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_uint_eq(t.incarnation, a.incarnation);
    tape_close(&t);
}
END_TEST

/* Past the bus: a message as any server's replica may have it. */
static void publish_raw(const char *subject, const char *headers, const char *value)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)w.ports[0]),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int    fd = socket(AF_INET, SOCK_STREAM, 0);
    char   text[600], answer[4096] = "";
    size_t h = strlen(headers) + strlen("NATS/1.0\r\n\r\n");
    int    n = snprintf(text, sizeof text, "CONNECT {\"verbose\":false,\"headers\":true}\r\n"
                        "HPUB %s %zu %zu\r\nNATS/1.0\r\n%s\r\n%s\r\nPING\r\n", subject, h,
                        h + strlen(value), headers, value);

    ck_assert_int_eq(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(write(fd, text, (size_t)n), n);
    while (strstr(answer, "PONG") == NULL) {
        size_t have = strlen(answer);

        ck_assert_int_gt(read(fd, answer + have, sizeof answer - 1 - have), 0);
    }
    close(fd);
}

/* As by a server that lags, or passed a change over. */
START_TEST(a_watch_tells_no_older_state_of_a_key_than_it_told)
{
    struct watched x = { .watch = { .prefix = "a.", .change = watched_change,
                                    .current = watched_current, .ctx = &x } };
    static const char *const want[] = { "current", "a.1=new", "a.2=x", "a.1=theirs", "a.1=last" };
    char subject[64];

    ENTER(NATS);
    x.watch.loop = w.loop;
    on_loop(watch_begin, &x);
    wait_for(&x.current, 1);
    snprintf(subject, sizeof subject, "$KV.KOA_%s.a.1", w.nats.cell);
    kv(KL_BUS_KV_PUT, "a.1", "new", 0);
    publish_raw(subject, "Koa-Revision: 1000 somebody.1\r\n", "old");
    kv(KL_BUS_KV_PUT, "a.2", "x", 0);
    publish_raw(subject, "", "theirs");                /* a tool's: it has no revision */
    kv(KL_BUS_KV_PUT, "a.1", "last", UINT64_MAX);
    wait_for(&x.count, 5);
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(x.text[i], want[i]);
    on_loop(watch_end, &x);
}
END_TEST

START_TEST(a_reader_is_told_each_second_where_the_log_ends)
{
    struct tape t;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 1);
    for (int i = 0; atomic_load(&t.end_at) != 3; i++) {
        ck_assert_int_lt(i, 1000);
        usleep(10000);
    }
    appended(0, "x");
    for (int i = 0; atomic_load(&t.end_at) != 4; i++) {
        ck_assert_int_lt(i, 1000);
        usleep(10000);
    }
    tape_close(&t);
}
END_TEST

/* A server whose disk is that of an hour ago, and which goes on from there. */
START_TEST(a_log_that_was_rolled_back_and_went_on_breaks_its_reader_although_it_is_long_enough)
{
    char          command[256];
    struct tape   t;
    natsConnection *nc = NULL;

    if (!has_server())
        return;
    server_start();
    bus_open();
    for (int i = 0; i < 3; i++)
        appended(0, "x");
    tape_open(&t, 0, 1);
    wait_for(&t.count, 3);
    server_kill();
    snprintf(command, sizeof command, "cp -a %s/js0 %s/before", w.path, w.path);
    ck_assert_int_eq(system(command), 0);
    server_start();
    for (int i = 0; append(0, "fourth", "").code != KL_OK; i++)
        ck_assert_int_lt(i, 20);
    wait_for(&t.count, 4);
    server_kill();
    snprintf(command, sizeof command, "rm -rf %s/js0 && mv %s/before %s/js0", w.path, w.path, w.path);
    ck_assert_int_eq(system(command), 0);
    server_start();
    ck_assert_int_eq(natsConnection_ConnectTo(&nc, w.url), NATS_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(natsConnection_PublishString(nc, "koa.t.log.0000", "another"), NATS_OK);
    ck_assert_int_eq(natsConnection_Flush(nc), NATS_OK);
    natsConnection_Destroy(nc);
    wait_for(&t.broken, 1);
    ck_assert_int_eq(t.code, KL_ECORRUPT);
    ck_assert_msg(strstr(t.err.text, "is not the one that was read before") != NULL, "%s", t.err.text);
    ck_assert_uint_eq(t.count, 4);
    tape_close(&t);
}
END_TEST

int main(void)
{
    Suite   *s = suite_create("libkoal/bus");
    TCase   *t = tcase_create("all"), *local = tcase_create("local"),
            *crash = tcase_create("crash"),
             *nats = tcase_create("nats");
    SRunner *r = srunner_create(s);
    int      failed;

    tcase_add_checked_fixture(t, open_world, close_world);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, appends_of_a_partition_land_in_the_order_issued_and_are_read_in_it, 0,
                        WORLDS);
    tcase_add_loop_test(t, reader_begins_at_exactly_the_sequence_asked_for, 0, WORLDS);
    tcase_add_loop_test(t, reader_of_an_empty_log_is_caught_up_and_then_hears_what_comes, 0,
                        WORLDS);
    tcase_add_loop_test(t, repeat_under_one_id_is_one_record, 0, WORLDS);
    tcase_add_loop_test(t, unfit_records_are_refused_with_words, 0, WORLDS);
    tcase_add_loop_test(t, info_says_what_a_partition_holds, 0, WORLDS);
    tcase_add_loop_test(t, reading_what_was_purged_breaks_and_says_where_the_log_begins, 0, WORLDS);
    tcase_add_loop_test(t, reading_past_the_end_is_a_rollback, 0, WORLDS);
    tcase_add_loop_test(t, what_was_acked_is_there_after_a_restart, 0, WORLDS);
    tcase_add_loop_test(t, a_full_log_refuses_and_a_purge_makes_room, 0, WORLDS);
    tcase_add_loop_test(t, a_long_log_is_read_back_whole_and_in_order, 0, WORLDS);
    tcase_add_loop_test(t, compare_and_set_loses_to_whoever_was_first, 0, WORLDS);
    tcase_add_loop_test(t, of_many_who_want_one_key_one_gets_it, 0, WORLDS);
    tcase_add_loop_test(t, unfit_keys_and_values_are_refused, 0, WORLDS);
    tcase_add_loop_test(t, watch_tells_the_present_state_then_each_change_in_order, 0, WORLDS);
    tcase_add_loop_test(t, a_question_gets_its_answer_or_the_words_why_not, 0, WORLDS);
    tcase_add_loop_test(t, closing_completes_what_is_under_way, 0, WORLDS);
    suite_add_tcase(s, t);

    tcase_add_checked_fixture(local, open_world, close_world);
    tcase_set_timeout(local, 60);
    tcase_add_loop_test(local, a_log_filled_by_one_burst_is_emptied_by_a_purge, 0, NATS);
    tcase_add_loop_test(local, purged_segments_are_deleted, 0, NATS);
    tcase_add_loop_test(local, damage_before_what_was_acked_later_is_named, 0, NATS);
    tcase_add_loop_test(local, damage_in_an_old_segment_breaks_its_reader_at_that_record, 0, NATS);
    tcase_add_loop_test(local, another_number_of_partitions_is_refused, 0, NATS);
    tcase_add_test(local, with_an_interval_acks_do_not_wait_for_the_disk_which_is_synced_in_time);
    tcase_add_test(local, an_id_is_remembered_for_two_minutes_and_forgotten_in_the_end);
    tcase_add_test(local, a_failed_sync_is_final);
    tcase_add_test(local, a_full_disk_refuses_and_room_makes_it_go_on);
    suite_add_tcase(s, local);

    tcase_add_checked_fixture(nats, open_world, close_world);
    tcase_set_timeout(nats, 240);
    tcase_add_test(nats, without_a_server_operations_fail_with_words_until_there_is_one);
    tcase_add_test(nats, a_server_killed_and_restarted_in_mid_run_costs_nothing_that_was_acked);
    tcase_add_test(nats, a_stream_made_anew_under_a_reader_breaks_it_with_the_new_incarnation);
    tcase_add_test(nats, a_stream_made_anew_while_the_server_was_away_breaks_its_reader);
    tcase_add_test(nats, a_server_that_hangs_costs_time_and_no_more);
    tcase_add_test(nats, a_watch_tells_no_older_state_of_a_key_than_it_told);
    tcase_add_test(nats, a_reader_is_told_each_second_where_the_log_ends);
    tcase_add_test(nats,
                   a_log_that_was_rolled_back_and_went_on_breaks_its_reader_although_it_is_long_enough);
    tcase_add_test(nats, of_two_who_make_a_stream_at_once_both_see_one_incarnation_for_ever);
    tcase_add_test(nats, what_was_sent_to_a_leader_that_stands_still_is_sent_again_to_the_next);
    tcase_add_test(nats,
                   with_three_replicas_the_loss_of_any_one_server_costs_nothing_that_was_acked);
    suite_add_tcase(s, nats);

    tcase_set_timeout(crash, 60);
    tcase_add_loop_test(crash, with_an_interval_a_kill_loses_nothing_and_a_power_cut_only_the_end,
                        0, 50);
    tcase_add_test(crash, with_an_interval_a_hole_in_what_was_not_synced_ends_the_log_there);
    tcase_add_loop_test(crash, every_acked_record_survives_crashes_at_any_point, 0, 200);
    suite_add_tcase(s, crash);

    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
