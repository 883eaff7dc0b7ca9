/* The streams of the log: found or made, asked what they hold, purged. */
#include "libkoal/bus/bus_nats_priv.h"

#include "libkoal/base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DELETION_MS = 1000, SETTLE_MS = 300, TURN_MS = 10000, STAGGER_MS = 200, TRIES_ALIKE = 16 };
static const int64_t duplicates_ns = INT64_C(120) * 1000000000;

void kl_busn_stream_name(const struct kl_busn *b, uint32_t partition,
                         char name[KL_BUSN_NAME_MAX + 1])
{
    snprintf(name, KL_BUSN_NAME_MAX + 1, "KOA_L_%s_%04" PRIu32, b->cell, partition);
}

void kl_busn_log_subject(const struct kl_busn *b, uint32_t partition,
                         char subject[KL_BUSN_NAME_MAX + 1])
{
    snprintf(subject, KL_BUSN_NAME_MAX + 1, "koa.%s.log.%04" PRIu32, b->cell, partition);
}

static void state_of(const jsStreamInfo *si, struct kl_busn_state *state)
{
    state->incarnation = (uint64_t)si->Created;
    state->last_seq = si->State.LastSeq;
    state->first_seq = si->State.Msgs == 0 ? si->State.LastSeq + 1 : si->State.FirstSeq;
    state->size_bytes = si->State.Bytes;
    state->replicas = si->Config != NULL ? (uint64_t)si->Config->Replicas : 0;
    state->leader = si->Cluster != NULL && si->Cluster->Leader != NULL && si->Cluster->Leader[0] != '\0'
                  ? kl_hash64(si->Cluster->Leader, strlen(si->Cluster->Leader)) : 0;
}

/* ---- how long a look may take ----
 *
 * A stream without a leader does not say so: nobody answers. So whoever waits for one asks often, and an
 * answer that is lost because of it is no harm; but where answers are slow, asking would never end.
 */
static void note_look(struct kl_busn *b, int64_t took_ms)
{
    unsigned took = took_ms < KL_BUSN_TRY_MS ? (unsigned)took_ms : KL_BUSN_TRY_MS;
    unsigned was = atomic_load(&b->look_ms);

    atomic_store(&b->look_ms, took > was ? took : was - (was - took + 7) / 8);
}

int64_t kl_busn_look_ms(struct kl_busn *b, unsigned unanswered)
{
    int64_t ms = 4 * (int64_t)atomic_load(&b->look_ms);

    if (ms < KL_BUSN_TRY_FIRST_MS)
        ms = KL_BUSN_TRY_FIRST_MS;
    for (unsigned n = TRIES_ALIKE; n <= unanswered && ms < KL_BUSN_TRY_MS; n += TRIES_ALIKE)
        ms *= 2;
    return ms < KL_BUSN_TRY_MS ? ms : KL_BUSN_TRY_MS;
}

/* A stream that was there and is not may be in the middle of its deletion: a server (2.9) that
 * makes it anew at that moment makes one that cannot be written to. */
static bool is_being_deleted(struct kl_busn *b, uint32_t partition)
{
    struct kl_busn_partition *p = &b->partitions[partition];
    int64_t now_ns = kl_env_mono_ns(b->env), none = 0;

    if (!atomic_load(&p->known))
        return false;
    if (atomic_compare_exchange_strong(&p->missing_ns, &none, now_ns))
        return true;
    return now_ns - none < DELETION_MS * INT64_C(1000000);
}

/*
 * Is this creation time what everybody will see? A server (2.9) tells its own clock's time of a stream
 * for a moment, after it made or restored it. So one that is new, or another than before, has to last.
 */
static bool is_settled(struct kl_busn *b, uint32_t partition, const struct kl_busn_state *state)
{
    struct kl_busn_partition *p = &b->partitions[partition];
    uint64_t seen = atomic_load(&p->seen);
    int64_t  now_ns = kl_env_mono_ns(b->env);

    if (seen == state->incarnation || (seen == 0 && state->last_seq > 0)) {
        atomic_store(&p->seen, state->incarnation);
        atomic_store(&p->odd, 0);
        return true;
    }
    if (atomic_load(&p->odd) != state->incarnation) {
        atomic_store(&p->odd_ns, now_ns);
        atomic_store(&p->odd, state->incarnation);
        return false;
    }
    if (now_ns - atomic_load(&p->odd_ns) < SETTLE_MS * INT64_C(1000000))
        return false;
    atomic_store(&p->seen, state->incarnation);
    atomic_store(&p->odd, 0);
    return true;
}

static natsStatus add(struct kl_busn *b, const char *name, const char *subject, jsOptions *o,
                      jsErrCode *e)
{
    jsStreamConfig c;
    natsStatus     s;

    jsStreamConfig_Init(&c);
    c.Name = name;
    c.Subjects = &subject;
    c.SubjectsLen = 1;
    c.Retention = js_LimitsPolicy;
    c.Discard = js_DiscardNew;
    c.Storage = js_FileStorage;
    c.MaxBytes = b->options.stream_bytes_max > 0 ? (int64_t)b->options.stream_bytes_max : -1;
    c.Replicas = b->options.log_replicas;
    c.Duplicates = duplicates_ns;
    *e = 0;
    s = js_AddStream(NULL, b->js, &c, o, e);
    if (s == NATS_OK)
        kl_logf(b->log, KL_INFO, "made stream %s at %s", name, b->url);
    return s;
}

/* Whose turn it is to make the stream, by a key; KL_EAGAIN: not ours. One who has not done it
 * within a while is taken for dead. */
static enum kl_code take_turn(struct kl_busn *b, struct kl_busn_partition *p, struct kl_bus_kv *turn,
                              int64_t wait_ms, struct kl_err *err)
{
    struct kl_bus_kv look = { .kind = KL_BUS_KV_GET };
    int64_t          now_ns = kl_env_mono_ns(b->env);
    bool             ours;

    usleep(kl_env_draw(b->env) % STAGGER_MS * 1000);   /* many who start at once */
    turn->kind = KL_BUS_KV_PUT;
    turn->value = kl_span_str(b->inbox);
    turn->expect = 0;
    if (kl_busn_kv_now(b, turn, wait_ms, err) == KL_OK)
        return KL_OK;
    if (err->code != KL_EEXIST)
        return err->code = KL_EAGAIN;
    memcpy(look.key, turn->key, sizeof look.key);
    if (kl_busn_kv_now(b, &look, wait_ms, err) != KL_OK)
        return err->code = KL_EAGAIN;
    ours = kl_span_eq(kl_span(look.got, look.got_size), kl_span_str(b->inbox));
    free(look.got);
    turn->revision = look.revision;
    if (ours)
        return KL_OK;
    if (p->maker != look.revision) {
        p->maker = look.revision;
        p->maker_ns = now_ns;
    } else if (now_ns - p->maker_ns > TURN_MS * INT64_C(1000000)) {
        look.kind = KL_BUS_KV_DELETE;
        look.expect = look.revision;
        kl_busn_kv_now(b, &look, wait_ms, &(struct kl_err){ 0 });
    }
    return kl_fail(err, KL_EAGAIN, "somebody else makes the stream at %s", b->url);
}

/*
 * Makes a stream that was not there. One at a time: of two that are being made at once with the same
 * name, a server (2.9) may keep the first's creation time, and find the second's when it restarts.
 * Always KL_EAGAIN, or why not: what a server says of a stream that it has just made may not last.
 */
static enum kl_code make(struct kl_busn *b, uint32_t partition, int64_t wait_ms, struct kl_err *err)
{
    struct kl_busn_partition *p = &b->partitions[partition];
    char             name[KL_BUSN_NAME_MAX + 1], subject[KL_BUSN_NAME_MAX + 1];
    struct kl_bus_kv turn = { 0 };
    jsStreamInfo    *si = NULL;
    jsOptions        o;
    jsErrCode        e = 0;
    natsStatus       s;
    bool             free_turn = false;

    if (!atomic_compare_exchange_strong(&p->making, &free_turn, true))
        return kl_fail(err, KL_EAGAIN, "the stream at %s is being made", b->url);
    kl_busn_stream_name(b, partition, name);
    kl_busn_log_subject(b, partition, subject);
    snprintf(turn.key, sizeof turn.key, "making.%04" PRIu32, partition);
    jsOptions_Init(&o);
    o.Wait = wait_ms;
    if (take_turn(b, p, &turn, wait_ms, err) != KL_OK) {
        kl_within(err, "stream %s", name);
    } else {
        s = js_GetStreamInfo(&si, b->js, name, &o, &e);        /* whoever had the turn may have */
        jsStreamInfo_Destroy(si);
        if (s == NATS_NOT_FOUND || e == JSStreamNotFoundErr)
            s = add(b, name, subject, &o, &e);
        if (s == NATS_OK || e == JSStreamNameExistErr) {
            turn.kind = KL_BUS_KV_DELETE;
            turn.expect = turn.revision;
            kl_busn_kv_now(b, &turn, wait_ms, &(struct kl_err){ 0 });
            kl_fail(err, KL_EAGAIN, "stream %s at %s is just being made", name, b->url);
        } else {
            kl_busn_code(b, s, e, "make a stream", err);
            kl_within(err, "stream %s", name);
        }
    }
    atomic_store(&p->making, false);
    return err->code;
}

enum kl_code kl_busn_stream(struct kl_busn *b, uint32_t partition, int64_t wait_ms,
                            struct kl_busn_state *state, struct kl_err *err)
{
    struct kl_busn_state found = { 0 };
    char name[KL_BUSN_NAME_MAX + 1];
    jsStreamInfo  *si = NULL;
    jsOptions      o;
    jsErrCode      e = 0;
    natsStatus     s;
    enum kl_code   code;
    int64_t        begin_ns = kl_env_mono_ns(b->env);

    kl_busn_stream_name(b, partition, name);
    jsOptions_Init(&o);
    o.Wait = wait_ms;
    s = js_GetStreamInfo(&si, b->js, name, &o, &e);
    if (s == NATS_OK)
        note_look(b, (kl_env_mono_ns(b->env) - begin_ns) / 1000000);
    if ((s == NATS_NOT_FOUND || e == JSStreamNotFoundErr) && !b->options.create)
        return kl_fail(err, KL_EAGAIN, "there is no stream %s at %s, and we are not to make it",
                       name, b->url);
    if ((s == NATS_NOT_FOUND || e == JSStreamNotFoundErr) && is_being_deleted(b, partition))
        return kl_fail(err, KL_EAGAIN, "stream %s at %s is gone; it will be made anew", name,
                       b->url);
    if (s == NATS_NOT_FOUND || e == JSStreamNotFoundErr) {
        code = make(b, partition, wait_ms > KL_BUSN_TRY_MS ? wait_ms : KL_BUSN_TRY_MS, err);
        return code == KL_ETIMEOUT || code == KL_ENOENT ? (err->code = KL_EAGAIN) : code;
    }
    if (s != NATS_OK) {
        char what[KL_BUSN_NAME_MAX + 16];

        snprintf(what, sizeof what, "stream %s", name);
        code = kl_busn_code(b, s, e, what, err);
        return code == KL_ETIMEOUT || code == KL_ENOENT ? (err->code = KL_EAGAIN) : code;
    }
    /* Without a leader any of its servers answers, whatever it has. */
    if (si->Cluster != NULL && si->Config != NULL && si->Config->Replicas > 1 &&
        (si->Cluster->Leader == NULL || si->Cluster->Leader[0] == '\0')) {
        jsStreamInfo_Destroy(si);
        return kl_fail(err, KL_EAGAIN, "stream %s at %s has no leader", name, b->url);
    }
    /* Of a stream that is not yet made: without a time, which would pass for an incarnation. */
    if (si->Created <= 0) {
        jsStreamInfo_Destroy(si);
        return kl_fail(err, KL_EAGAIN, "stream %s at %s is just being made", name, b->url);
    }
    state_of(si, &found);
    jsStreamInfo_Destroy(si);
    atomic_store(&b->partitions[partition].missing_ns, 0);
    if (!is_settled(b, partition, &found))
        return kl_fail(err, KL_EAGAIN, "stream %s at %s has just been made", name, b->url);
    atomic_store(&b->partitions[partition].known, true);
    *state = found;
    return KL_OK;
}

/* ---- info and purge ---- */

struct look { struct kl_busn_job job; struct kl_bus_info *info; struct kl_bus_purge *purge;
              struct kl_busn_state state; };

static void info_done(struct kl_env_task *task)
{
    struct kl_bus_info *op = kl_container_of(task, struct kl_bus_info, task);

    op->done(op);
}

static void info_complete(struct kl_busn *b, struct kl_bus_info *op, enum kl_code code)
{
    op->code = code;
    op->task.run = info_done;
    kl_busn_post(b, op->loop, &op->task);
}

static enum kl_code info_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct look *k = kl_container_of(j, struct look, job);

    if (wait_ms > KL_BUSN_TRY_MS)
        wait_ms = KL_BUSN_TRY_MS;
    return kl_busn_stream(j->bus, k->info->partition, wait_ms, &k->state, err);
}

static void info_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct look *k = kl_container_of(j, struct look, job);

    k->info->incarnation = k->state.incarnation;
    k->info->first_seq = k->state.first_seq;
    k->info->last_seq = k->state.last_seq;
    k->info->size_bytes = k->state.size_bytes;
    k->info->err = *err;
    info_complete(j->bus, k->info, code);
    free(k);
}

static void on_info(struct kl_env_task *task)
{
    struct kl_bus_info *op = kl_container_of(task, struct kl_bus_info, task);
    struct kl_busn     *b = op->own;
    struct look        *k = kl_new(sizeof *k);

    k->info = op;
    k->job.look = true;
    k->job.run = info_run;
    k->job.over = info_over;
    k->job.deadline_ns = kl_busn_deadline(b, b->options.op_timeout_ms);
    kl_busn_job_start(b, &k->job);
}

void kl_busn_info(struct kl_bus *bus, struct kl_bus_info *op)
{
    struct kl_busn *b = kl_busn(bus);

    op->err = (struct kl_err){ 0 };
    op->own = b;
    if (kl_bus_fit_partition(op->partition, b->options.partitions, &op->err) != KL_OK ||
        kl_busn_hand(b, &op->task, on_info, &op->err) != KL_OK)
        info_complete(b, op, op->err.code);
}

static void purge_done(struct kl_env_task *task)
{
    struct kl_bus_purge *op = kl_container_of(task, struct kl_bus_purge, task);

    op->done(op);
}

static void purge_complete(struct kl_busn *b, struct kl_bus_purge *op, enum kl_code code)
{
    op->code = code;
    op->task.run = purge_done;
    kl_busn_post(b, op->loop, &op->task);
}

/* Never beyond the last record: a purge past it would move the next sequence. */
static enum kl_code purge_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    struct look    *k = kl_container_of(j, struct look, job);
    struct kl_busn *b = j->bus;
    uint64_t   up_to = k->purge->up_to;
    char       name[KL_BUSN_NAME_MAX + 1];
    jsErrCode  e = 0;
    jsOptions  o;
    natsStatus s;
    enum kl_code code;

    if (kl_busn_stream(b, k->purge->partition, wait_ms, &k->state, err) != KL_OK)
        return err->code;
    if (up_to > k->state.last_seq)
        up_to = k->state.last_seq;
    if (up_to < k->state.first_seq)
        return KL_OK;
    kl_busn_stream_name(b, k->purge->partition, name);
    jsOptions_Init(&o);
    o.Wait = wait_ms;
    o.Stream.Purge.Sequence = up_to + 1;
    s = js_PurgeStream(b->js, name, &o, &e);
    if (s == NATS_OK)
        return KL_OK;
    code = kl_busn_code(b, s, e, "purge the log", err);
    return code == KL_ETIMEOUT || code == KL_ENOENT ? (err->code = KL_EAGAIN) : code;
}

static void purge_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct look *k = kl_container_of(j, struct look, job);

    k->purge->err = *err;
    purge_complete(j->bus, k->purge, code);
    free(k);
}

static void on_purge(struct kl_env_task *task)
{
    struct kl_bus_purge *op = kl_container_of(task, struct kl_bus_purge, task);
    struct kl_busn      *b = op->own;
    struct look         *k = kl_new(sizeof *k);

    k->purge = op;
    k->job.run = purge_run;
    k->job.over = purge_over;
    k->job.deadline_ns = kl_busn_deadline(b, b->options.op_timeout_ms);
    kl_busn_job_start(b, &k->job);
}

void kl_busn_purge(struct kl_bus *bus, struct kl_bus_purge *op)
{
    struct kl_busn *b = kl_busn(bus);

    op->err = (struct kl_err){ 0 };
    op->own = b;
    if (kl_bus_fit_partition(op->partition, b->options.partitions, &op->err) != KL_OK ||
        kl_busn_hand(b, &op->task, on_purge, &op->err) != KL_OK)
        purge_complete(b, op, op->err.code);
}
