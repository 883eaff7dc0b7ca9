/* The reader's other half: what a partition holds, and forgetting it. */
#include "libkoal/bus/bus_local_priv.h"

#include <inttypes.h>
#include <stdlib.h>

static void info_done(struct kl_env_task *task)
{
    struct kl_bus_info *op = kl_container_of(task, struct kl_bus_info, task);

    op->done(op);
}

static void info_complete(struct kl_busl *b, struct kl_bus_info *op, enum kl_code code)
{
    op->code = code;
    op->task.run = info_done;
    kl_busl_post(b, op->loop, &op->task);
}

static void on_info(struct kl_env_task *task)
{
    struct kl_bus_info *op = kl_container_of(task, struct kl_bus_info, task);
    struct kl_busl     *b = op->own;
    struct kl_busl_index *x = &b->reader.index;

    op->incarnation = b->incarnation;
    op->first_seq = x->first[op->partition];
    op->last_seq = x->last[op->partition];
    op->size_bytes = x->bytes[op->partition];
    info_complete(b, op, KL_OK);
}

void kl_busl_info(struct kl_bus *bus, struct kl_bus_info *op)
{
    struct kl_busl *b = kl_busl(bus);

    op->err = (struct kl_err){ 0 };
    op->own = b;
    if (kl_bus_fit_partition(op->partition, b->options.partitions, &op->err) != KL_OK ||
        kl_busl_hand(b, b->reader.loop, &op->task, on_info, &op->err) != KL_OK)
        info_complete(b, op, op->err.code);
}

static void purge_done(struct kl_env_task *task)
{
    struct kl_bus_purge *op = kl_container_of(task, struct kl_bus_purge, task);

    op->done(op);
}

static void purge_complete(struct kl_busl *b, struct kl_bus_purge *op, enum kl_code code)
{
    op->code = code;
    op->task.run = purge_done;
    kl_busl_post(b, op->loop, &op->task);
}

/* Oldest first and one at a time, each removal durable before the next: what a crash leaves is
 * always an unbroken row of segments. A removal that fails is tried again with the next purge. */
static void drop_segments(struct kl_busl_reader *r)
{
    struct kl_busl *b = r->bus;
    struct kl_err   err;
    char name[KL_BUSL_NAME_MAX + 1];

    while (kl_busl_index_oldest_is_done(&r->index)) {
        struct kl_busl_segment *s = r->index.segments[0];

        kl_busl_segment_name(name, s->number);
        if ((b->dir->remove(b->dir, name, &err) != KL_OK && err.code != KL_ENOENT) ||
            b->dir->sync_names(b->dir, &err) != KL_OK) {
            kl_logf(b->log, KL_WARN, "remove log segment %s: %s", name, err.text);
            return;
        }
        atomic_fetch_sub(&b->log_bytes, s->size);
        kl_busl_index_drop_oldest(&r->index, b->dir);
    }
}

void kl_busl_on_purge_flush(struct kl_env_task *task)
{
    struct kl_busl_reader *r = kl_container_of(task, struct kl_busl_reader, purge);
    struct kl_busl *b = r->bus;
    struct kl_bus_purge *all = r->purges, *next;
    struct kl_busl_index *x = &r->index;
    struct kl_err err = { 0 };
    uint64_t *marks = kl_new(x->partitions * sizeof *marks);
    bool changed = false;

    r->purges = NULL;
    r->last_purge = &r->purges;
    for (uint32_t p = 0; p < x->partitions; p++)
        marks[p] = x->first[p] - 1;
    for (struct kl_bus_purge *op = all; op != NULL; op = op->own) {
        uint64_t up_to = op->up_to < x->last[op->partition] ? op->up_to : x->last[op->partition];

        changed |= up_to > marks[op->partition];
        if (up_to > marks[op->partition])
            marks[op->partition] = up_to;
    }
    if (changed && kl_busl_marks_write(b->dir, x->partitions, marks, &err) == KL_OK) {
        for (uint32_t p = 0; p < x->partitions; p++)
            if (marks[p] + 1 > x->first[p])
                kl_busl_index_purge(x, p, marks[p]);
        drop_segments(r);
    }
    free(marks);
    for (struct kl_bus_purge *op = all; op != NULL; op = next) {
        next = op->own;
        op->err = err;
        purge_complete(b, op, err.code);
    }
}

static void on_purge(struct kl_env_task *task)
{
    struct kl_bus_purge   *op = kl_container_of(task, struct kl_bus_purge, task);
    struct kl_busl_reader *r = op->own;

    op->own = NULL;                                    /* from here on: the next one waiting */
    *r->last_purge = op;
    r->last_purge = &op->own;
    if (!r->purge.queued)
        kl_busl_post(r->bus, r->loop, &r->purge);
}

void kl_busl_purge(struct kl_bus *bus, struct kl_bus_purge *op)
{
    struct kl_busl *b = kl_busl(bus);

    op->err = (struct kl_err){ 0 };
    op->own = &b->reader;
    if (kl_bus_fit_partition(op->partition, b->options.partitions, &op->err) != KL_OK ||
        kl_busl_hand(b, b->reader.loop, &op->task, on_purge, &op->err) != KL_OK)
        purge_complete(b, op, op->err.code);
}
