/*
 * libkoal/bus/bus_local: what its log does to a disk, and what a kill, a power cut or damage leaves
 * of it.
 */
#include "calls.h"

#include "libkoal/base/buf.h"
#include "libkoal/base/hash.h"

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

START_TEST(a_full_disk_refuses_a_key_and_room_makes_it_go_on)
{
    struct kl_bus_kv a;

    world_open(SIM_LOCAL);
    bus_open();
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "k", "before", 0).code, KL_OK);
    kl_env_disk_sim_room(w.disk, 20);
    a = kv(KL_BUS_KV_PUT, "k", "does not fit there", UINT64_MAX);
    ck_assert_msg(a.code == KL_ELIMIT, "%d %s", a.code, a.err.text);
    a = kv(KL_BUS_KV_GET, "k", NULL, 0);
    ck_assert_uint_eq(a.got_size, 6);
    free(a.got);
    kl_env_disk_sim_room(w.disk, UINT64_MAX);
    a = kv(KL_BUS_KV_PUT, "k", "behind", a.revision);
    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    /* Full where only the folder is left to sync: which of the two tables it has, nobody knows. */
    kl_env_disk_sim_fail(w.disk, 5, KL_ELIMIT);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "k", "unknown", UINT64_MAX).code, KL_EIO);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "k", "refused", UINT64_MAX).code, KL_EIO);
}
END_TEST

/* A table of keys as full as one may be, but for some bytes; and a last key, of which there is little. */
static void put_full_table(void)
{
    enum { KEYS = 1023 };
    struct kl_buf      b = { 0 };
    struct kl_env_dir *dir;
    struct kl_env_file *f;
    char *big = calloc(1, KL_BUS_VALUE_MAX), key[16];

    kl_buf_add(&b, "KOAKVT1\n", 8);
    kl_buf_add32(&b, 1);
    kl_buf_add64(&b, KEYS + 1);
    kl_buf_add32(&b, KEYS + 1);
    for (uint64_t i = 0; i < KEYS; i++) {
        kl_buf_add64(&b, i + 1);
        snprintf(key, sizeof key, "k%04u", (unsigned)i);
        kl_buf_addspan(&b, kl_span_str(key));
        kl_buf_addspan(&b, kl_span(big, KL_BUS_VALUE_MAX));
    }
    kl_buf_add64(&b, KEYS + 1);
    kl_buf_addspan(&b, kl_span_str("last"));
    kl_buf_addspan(&b, kl_span_str("little"));
    kl_buf_add32(&b, kl_crc32c(0, b.at, b.size));
    ck_assert_int_eq(w.dir->enter(w.dir, "kv", true, &dir, &err), KL_OK);
    ck_assert_int_eq(dir->create(dir, "table", &f, &err), KL_OK);
    ck_assert_int_eq(dir->append(f, b.at, b.size, &err), KL_OK);
    ck_assert_int_eq(dir->sync(f, &err), KL_OK);
    dir->close(f);
    dir->leave(dir);
    kl_buf_deinit(&b);
    free(big);
}

START_TEST(a_full_table_of_keys_lets_no_value_grow)
{
    char             *big = calloc(1, KL_BUS_VALUE_MAX + 1);
    struct kl_bus_kv  a;

    memset(big, 'x', KL_BUS_VALUE_MAX);
    world_open(SIM_LOCAL);
    put_full_table();
    bus_open();
    a = kv(KL_BUS_KV_PUT, "last", big, UINT64_MAX);
    ck_assert_int_eq(a.code, KL_ELIMIT);
    ck_assert_str_eq(a.err.text, "the table of keys is full");
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "last", "less", UINT64_MAX).code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "k0000", "much less", UINT64_MAX).code, KL_OK);
    ck_assert_int_eq(kv(KL_BUS_KV_PUT, "last", big, UINT64_MAX).code, KL_OK);
    free(big);
}
END_TEST

/* ---- crashes ---- */

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

int main(void)
{
    Suite *s = suite_create("libkoal/bus");
    TCase *local = tcase_create("local"), *crash = tcase_create("crash");

    tcase_add_checked_fixture(local, world_unopened, world_close);
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
    tcase_add_test(local, a_full_disk_refuses_a_key_and_room_makes_it_go_on);
    tcase_add_test(local, a_full_table_of_keys_lets_no_value_grow);
    suite_add_tcase(s, local);

    tcase_set_timeout(crash, 60);
    tcase_add_loop_test(crash, with_an_interval_a_kill_loses_nothing_and_a_power_cut_only_the_end,
                        0, 50);
    tcase_add_test(crash, with_an_interval_a_hole_in_what_was_not_synced_ends_the_log_there);
    tcase_add_loop_test(crash, every_acked_record_survives_crashes_at_any_point, 0, 200);
    suite_add_tcase(s, crash);

    return run_suite(s);
}
