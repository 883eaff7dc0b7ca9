/*
 * libkoal/bus: a folder whose newest segment holds the input. Opening must end, in a log that can
 * be read to its end or in words. So that more than the first checksum is reached, the input is a
 * list of pieces: a true header of a group or a true record with fields of the input's choice, or
 * bytes as they are.
 */
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/buf.h"
#include "libkoal/bus/bus_local_priv.h"

enum { PARTITIONS = 3 };
static unsigned caught_up, broken;

static void on_record(struct kl_bus_reader *r, const struct kl_bus_record *rec) { (void)r; (void)rec; }
static void on_caught_up(struct kl_bus_reader *r, uint64_t seq) { (void)r; (void)seq; caught_up++; }
static void on_broken(struct kl_bus_reader *r, enum kl_code c, uint64_t i, uint64_t f,
                      const struct kl_err *e)
{
    (void)r; (void)c; (void)i; (void)f; (void)e;
    broken++;
}

static void piece(struct kl_cur *c, struct kl_buf *out, uint64_t salt)
{
    uint8_t kind = kl_cur_8(c);

    if (kind % 4 == 0) {                               /* a group of true entries */
        struct kl_busl_group *g = kl_busl_group_new(8 * 160, 8);

        for (unsigned n = kind / 4 % 9; n > 0 && g->count < 8; n--) {
            struct kl_busl_entry_head h = { .partition = kl_cur_8(c) % 4, .seq = kl_cur_8(c) };
            struct kl_span bytes = kl_cur_bytes(c, 1 + kl_cur_8(c) % 64);

            if (c->bad)
                break;
            h.id = kl_cur_bytes(c, kl_cur_8(c) % (KL_BUS_ID_MAX + 1));
            kl_busl_group_add(g, salt, &h, bytes);
        }
        kl_busl_group_seal(g, 1, out->size, salt, kind > 128 ? out->size : kl_cur_8(c));
        kl_buf_add(out, g->bytes, g->size);
        kl_busl_group_unref(g);
    } else if (kind % 4 == 1) {                        /* a head that says what it likes */
        uint8_t head[KL_BUSL_GROUP_HEAD];
        struct kl_busl_group_head h = { .offset = out->size, .synced = kl_cur_16(c),
                                        .size = kl_cur_32(c), .count = kl_cur_32(c) };

        kl_busl_group_put(head, salt, &h);
        kl_buf_add(out, head, sizeof head);
    } else {
        struct kl_span raw = kl_cur_bytes(c, 1 + kind / 4);

        kl_buf_add(out, raw.at, raw.size);
    }
}

static void write_segment(struct kl_env_dir *dir, const uint8_t *in, size_t size)
{
    struct kl_env_dir *log;
    struct kl_env_file *f;
    struct kl_busl_segment_head h;
    struct kl_cur c = kl_cur(in, size);
    struct kl_buf out;
    struct kl_err err;
    uint8_t head[KL_BUSL_SEGMENT_HEAD];
    void   *old;
    size_t  old_size;
    bool    well;

    kl_buf_init(&out, 1 << 20);
    well = dir->enter(dir, "log", false, &log, &err) == KL_OK;
    well = well && log->read(log, "0000000000000001.seg", 1 << 20, &old, &old_size, &err) == KL_OK;
    well = well && kl_busl_segment_get(old, &h, &err) == KL_OK;
    if (!well)
        abort();
    free(old);
    if (kl_cur_8(&c) % 2 == 0) {
        kl_busl_segment_put(head, &h);
        kl_buf_add(&out, head, sizeof head);
    }
    while (kl_cur_left(&c) > 0)
        piece(&c, &out, h.salt);
    well = log->create(log, "x", &f, &err) == KL_OK &&
           log->append(f, out.at, out.size, &err) == KL_OK && log->sync(f, &err) == KL_OK &&
           log->publish(f, "0000000000000001.seg", &err) == KL_OK;
    if (!well)
        abort();
    log->close(f);
    log->leave(log);
    kl_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *in, size_t size)
{
    struct kl_env_sim      *sim = kl_env_sim_new(1);
    struct kl_env          *env = kl_env_sim_env(sim);
    struct kl_env_disk_sim *disk = kl_env_disk_sim_new();
    struct kl_env_dir      *dir = kl_env_disk_sim_root(disk);
    struct kl_bus_local_options o = { .partitions = PARTITIONS };
    struct kl_env_loop *loop;
    struct kl_bus *bus;
    struct kl_err  err;

    if (kl_bus_local_open(env, dir, &o, &bus, &err) != KL_OK)
        abort();
    bus->close(bus);
    bus->free(bus);
    write_segment(dir, in, size);
    if (kl_bus_local_open(env, dir, &o, &bus, &err) == KL_OK) {
        struct kl_bus_reader r[PARTITIONS];

        loop = env->sched->loop_new(env->sched, "fuzz", 10);
        caught_up = broken = 0;
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            r[p] = (struct kl_bus_reader){ .partition = p, .from_seq = 1, .loop = loop,
                                           .record = on_record, .caught_up = on_caught_up,
                                           .broken = on_broken };
            bus->read_open(bus, &r[p]);
        }
        kl_env_sim_run(sim, 1000);
        if (caught_up != PARTITIONS || broken != 0)    /* what recovery took is whole */
            abort();
        bus->close(bus);
        env->sched->loop_free(loop);
        for (uint32_t p = 0; p < PARTITIONS; p++)
            bus->read_close(bus, &r[p]);
        bus->free(bus);
    }
    dir->leave(dir);
    kl_env_disk_sim_free(disk);
    kl_env_sim_free(sim);
    return 0;
}
