#ifndef FAKE_BUS_H
#define FAKE_BUS_H
/*
 * A bus whose log does what a test says: appends wait in order until the test completes them with a code,
 * a sequence and an incarnation of its choice. It gives every watcher one placement table. And a
 * remote write message, built field by field, wrong ones too.
 */
#include "libkoal/bus/bus.h"
#include "libtsproto/placement.h"
#include "libtsproto/record.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { FAKE_APPENDS_MAX = 1000 };
struct fake_bus {
    struct kl_bus bus;
    struct kl_bus_append *waiting[FAKE_APPENDS_MAX];
    size_t  count;
    uint32_t partitions;
    struct kl_bus_watch *watch;
    struct kl_buf placement;
    struct kl_env_task watched;
    bool    closed, acks_at_once;
    uint64_t seq;
};

static void fake_done(struct kl_env_task *t)
{
    struct kl_bus_append *op = kl_container_of(t, struct kl_bus_append, task);

    op->done(op);
}

static void fake_complete(struct fake_bus *f, size_t i, enum kl_code code, uint64_t seq,
                          uint64_t incarnation, bool duplicate)
{
    struct kl_bus_append *op = f->waiting[i];

    ck_assert_uint_lt(i, f->count);
    memmove(&f->waiting[i], &f->waiting[i + 1], (--f->count - i) * sizeof f->waiting[0]);
    op->code = code;
    if (code != KL_OK)
        kl_fail(&op->err, code, "as the test says");
    op->seq = seq;
    op->incarnation = incarnation;
    op->duplicate = duplicate;
    op->task.run = fake_done;
    f->bus.env->sched->post(op->loop, &op->task);
}

static inline void fake_append(struct kl_bus *b, struct kl_bus_append *op)
{
    struct fake_bus *f = kl_container_of(b, struct fake_bus, bus);

    ck_assert_uint_lt(f->count, FAKE_APPENDS_MAX);
    f->waiting[f->count++] = op;
    if (f->closed)
        fake_complete(f, f->count - 1, KL_ECANCELED, 0, 0, false);
    else if (f->acks_at_once)
        fake_complete(f, f->count - 1, KL_OK, ++f->seq, 77, false);
}

static void fake_watched(struct kl_env_task *t)
{
    struct fake_bus *f = kl_container_of(t, struct fake_bus, watched);

    f->watch->change(f->watch, TSP_PLACEMENT_KEY, kl_buf_span(&f->placement), 1);
    f->watch->current(f->watch);
}

/* Shows the table, with so many partitions, to the gate (a doorman of one gate only). */
static void fake_place(struct fake_bus *f, uint32_t partitions)
{
    struct tsp_placement *p = tsp_placement_new(partitions);
    struct kl_err         err;

    kl_buf_reset(&f->placement);
    ck_assert_int_eq(tsp_placement_encode(p, &f->placement, &err), KL_OK);
    tsp_placement_free(p);
    f->watched.run = fake_watched;
    f->bus.env->sched->post(f->watch->loop, &f->watched);
}

static void fake_watch(struct kl_bus *b, struct kl_bus_watch *w)
{
    struct fake_bus *f = kl_container_of(b, struct fake_bus, bus);

    if (strcmp(w->prefix, TSP_PLACEMENT_KEY) != 0)
        return;                                        /* there is nothing else in this KV */
    f->watch = w;
    if (f->partitions > 0)
        fake_place(f, f->partitions);
}

static void fake_unwatch(struct kl_bus *b, struct kl_bus_watch *w) { (void)b, (void)w; }
static bool fake_healthy(struct kl_bus *b, struct kl_err *err) { (void)b, (void)err; return true; }

static void fake_close(struct fake_bus *f)
{
    f->closed = true;
    while (f->count > 0)
        fake_complete(f, 0, KL_ECANCELED, 0, 0, false);
}

static void fake_open(struct fake_bus *f, struct kl_env *env, uint32_t partitions)
{
    *f = (struct fake_bus){ .partitions = partitions };
    f->bus = (struct kl_bus){ .append = fake_append, .watch = fake_watch, .unwatch = fake_unwatch,
                              .healthy = fake_healthy, .env = env };
}

/* ---- prometheus.WriteRequest, by hand ---- */

static void rw1_bytes(struct kl_buf *out, unsigned field, const void *at, size_t size)
{
    kl_buf_addv(out, field << 3 | 2);
    kl_buf_addspan(out, kl_span(at, size));
}

static void rw1_label(struct kl_buf *series, const char *name, const char *value)
{
    struct kl_buf l = { 0 };

    rw1_bytes(&l, 1, name, strlen(name));
    rw1_bytes(&l, 2, value, strlen(value));
    rw1_bytes(series, 1, l.at, l.size);
    kl_buf_deinit(&l);
}

static inline void rw1_sample(struct kl_buf *series, int64_t time_ms, double value)
{
    struct kl_buf s = { 0 };

    kl_buf_addv(&s, 1 << 3 | 1);
    kl_buf_addf64(&s, value);
    kl_buf_addv(&s, 2 << 3);
    kl_buf_addv(&s, (uint64_t)time_ms);
    rw1_bytes(series, 2, s.at, s.size);
    kl_buf_deinit(&s);
}

static inline void rw1_exemplar(struct kl_buf *series, const char *name, const char *value, double v,
                                int64_t time_ms)
{
    struct kl_buf e = { 0 };

    rw1_label(&e, name, value);
    kl_buf_addv(&e, 2 << 3 | 1);
    kl_buf_addf64(&e, v);
    kl_buf_addv(&e, 3 << 3);
    kl_buf_addv(&e, (uint64_t)time_ms);
    rw1_bytes(series, 3, e.at, e.size);
    kl_buf_deinit(&e);
}

/* Adds the series to the message, as this field, and empties it. */
static void rw1_end_as(struct kl_buf *message, unsigned field, struct kl_buf *series)
{
    rw1_bytes(message, field, series->at, series->size);
    kl_buf_reset(series);
}

static inline void rw1_end(struct kl_buf *message, struct kl_buf *series)
{
    rw1_end_as(message, 1, series);
}
#endif
