#ifndef TEST_BUS_CALLS_H
#define TEST_BUS_CALLS_H
/*
 * Calls of the bus under test that wait for their end, a reader and a watch that keep what they are
 * given, and a service.
 */
#include "world.h"

/* ---- operations that wait ---- */

#define WAITING(type)                                                              \
    struct type##_wait { struct type op; _Atomic unsigned done; };                 \
    static inline void type##_over(struct type *op)                                \
    {                                                                              \
        atomic_fetch_add(&kl_container_of(op, struct type##_wait, op)->done, 1);   \
    }
WAITING(kl_bus_append)
WAITING(kl_bus_info)
WAITING(kl_bus_purge)
WAITING(kl_bus_ask)
WAITING(kl_bus_kv)

static inline struct kl_bus_append append_bytes(uint32_t partition, struct kl_span bytes,
                                                const char *id)
{
    struct kl_bus_append_wait a = { .op = { .partition = partition, .record = bytes,
                                            .loop = w.loop, .done = kl_bus_append_over } };

    snprintf(a.op.id, sizeof a.op.id, "%s", id);
    w.bus->append(w.bus, &a.op);
    wait_for(&a.done, 1);
    return a.op;
}

static inline struct kl_bus_append append(uint32_t partition, const char *text, const char *id)
{
    return append_bytes(partition, kl_span_str(text), id);
}

static inline uint64_t appended(uint32_t partition, const char *text)
{
    struct kl_bus_append a = append(partition, text, "");

    ck_assert_msg(a.code == KL_OK, "%s", a.err.text);
    return a.seq;
}

static inline struct kl_bus_info info(uint32_t partition)
{
    struct kl_bus_info_wait a = { .op = { .partition = partition, .loop = w.loop,
                                          .done = kl_bus_info_over } };

    uint64_t before = 0, after = 0;
    bool     known = w.bus->end != NULL && w.bus->end(w.bus, partition, &before);

    w.bus->info(w.bus, &a.op);
    wait_for(&a.done, 1);
    if (known && a.op.code == KL_OK && w.bus->end(w.bus, partition, &after))
        ck_assert(before <= a.op.last_seq && a.op.last_seq <= after);
    return a.op;
}

static inline void purge(uint32_t partition, uint64_t up_to)
{
    struct kl_bus_purge_wait a = { .op = { .partition = partition, .up_to = up_to, .loop = w.loop,
                                           .done = kl_bus_purge_over } };

    w.bus->purge(w.bus, &a.op);
    wait_for(&a.done, 1);
    ck_assert_msg(a.op.code == KL_OK, "%s", a.op.err.text);
}

static inline struct kl_bus_ask ask(const char *subject, const char *text, int64_t timeout_ms)
{
    struct kl_bus_ask_wait a = { .op = { .question = kl_span_str(text), .timeout_ms = timeout_ms,
                                         .loop = w.loop, .done = kl_bus_ask_over } };

    snprintf(a.op.subject, sizeof a.op.subject, "%s", subject);
    w.bus->ask(w.bus, &a.op);
    wait_for(&a.done, 1);
    return a.op;
}

static inline struct kl_bus_kv kv(enum kl_bus_kv_kind kind, const char *key, const char *value,
                                  uint64_t expect)
{
    struct kl_bus_kv_wait a = { .op = { .kind = kind, .expect = expect, .loop = w.loop,
                                        .done = kl_bus_kv_over,
                                        .value = kl_span_str(value != NULL ? value : "") } };

    snprintf(a.op.key, sizeof a.op.key, "%s", key);
    w.bus->kv(w.bus, &a.op);
    wait_for(&a.done, 1);
    return a.op;
}

/* ---- a reader that keeps what it is given ---- */

enum { SEEN_MAX = 20000 };
struct seen { uint64_t seq, incarnation; size_t size; bool repeat; char text[64]; };
struct tape {
    struct kl_bus_reader reader;
    struct seen *at;
    _Atomic unsigned count, caught_up, broken;
    _Atomic uint64_t caught_up_at, end_at;
    enum kl_code code;
    uint64_t incarnation, first_seq;
    struct kl_err err;
};

static inline void tape_record(struct kl_bus_reader *r, const struct kl_bus_record *rec)
{
    struct tape *t = r->ctx;
    unsigned n = atomic_load(&t->count);
    struct seen *s = &t->at[n];

    ck_assert_uint_lt(n, SEEN_MAX);
    s->seq = rec->seq;
    s->incarnation = rec->incarnation;
    s->repeat = rec->repeat;
    s->size = rec->bytes.size;
    snprintf(s->text, sizeof s->text, "%.*s", (int)(rec->bytes.size < 63 ? rec->bytes.size : 63),
             (const char *)rec->bytes.at);
    atomic_fetch_add(&t->count, 1);
}

static inline void tape_caught_up(struct kl_bus_reader *r, uint64_t last_seq)
{
    struct tape *t = r->ctx;

    atomic_store(&t->caught_up_at, last_seq);
    atomic_fetch_add(&t->caught_up, 1);
}

static inline void tape_ended(struct kl_bus_reader *r, uint64_t last_seq, int64_t asked_ns)
{
    struct tape *t = r->ctx;

    ck_assert_int_le(asked_ns, kl_env_mono_ns(w.env));
    atomic_store(&t->end_at, last_seq);
}

static inline void tape_broken(struct kl_bus_reader *r, enum kl_code code, uint64_t incarnation,
                               uint64_t first_seq, const struct kl_err *e)
{
    struct tape *t = r->ctx;

    t->code = code;
    t->incarnation = incarnation;
    t->first_seq = first_seq;
    t->err = *e;
    atomic_fetch_add(&t->broken, 1);
}

static inline void tape_begin(void *arg)
{
    struct tape *t = arg;

    w.bus->read_open(w.bus, &t->reader);
}

static inline void tape_end(void *arg)
{
    struct tape *t = arg;

    w.bus->read_close(w.bus, &t->reader);
}

static inline void tape_open(struct tape *t, uint32_t partition, uint64_t from_seq)
{
    memset(t, 0, sizeof *t);
    t->at = calloc(SEEN_MAX, sizeof *t->at);
    t->reader = (struct kl_bus_reader){ .partition = partition, .from_seq = from_seq,
                                        .loop = w.loop, .record = tape_record,
                                        .caught_up = tape_caught_up, .broken = tape_broken,
                                        .end = tape_ended, .ctx = t };
    on_loop(tape_begin, t);
}

static inline void tape_close(struct tape *t)
{
    on_loop(tape_end, t);
    free(t->at);
    t->at = NULL;
}

/* ---- a watch that keeps what it is told ---- */

struct watched { struct kl_bus_watch watch; _Atomic unsigned count, current; char text[64][64]; };

static inline void watched_change(struct kl_bus_watch *watch, const char *key, struct kl_span value,
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

static inline void watched_current(struct kl_bus_watch *watch)
{
    struct watched *x = watch->ctx;

    snprintf(x->text[atomic_load(&x->count)], 64, "current");
    atomic_fetch_add(&x->count, 1);
    atomic_fetch_add(&x->current, 1);
}

static inline void watch_begin(void *arg) { w.bus->watch(w.bus, &((struct watched *)arg)->watch); }
static inline void watch_end(void *arg) { w.bus->unwatch(w.bus, &((struct watched *)arg)->watch); }

/* ---- a service ---- */

static inline void serve_begin(void *arg) { w.bus->serve(w.bus, arg); }
static inline void serve_end(void *arg) { w.bus->unserve(w.bus, arg); }
#endif
