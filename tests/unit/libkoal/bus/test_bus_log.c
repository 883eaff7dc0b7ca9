/* libkoal/bus, the log: one suite over the local bus, really and simulated, and over NATS. */
#include "calls.h"

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

int main(void)
{
    Suite *s = suite_create("libkoal/bus");
    TCase *t = tcase_create("all");

    tcase_add_checked_fixture(t, world_unopened, world_close);
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
    suite_add_tcase(s, t);

    return run_suite(s);
}
