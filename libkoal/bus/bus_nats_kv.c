/*
 * Keys in a JetStream KV bucket, which is a stream with a subject a key.
 *
 * A key's revision is a number of ours, in a header: the time in ns, or one more than the revision
 * before. The sequence of its message would do, were it the same everywhere: replicas of nats-server
 * 2.9 number the same messages differently after some restarts, and whoever watched one could never
 * again change a key by way of another. So each change looks the key up at the stream's leader,
 * compares revisions, and publishes if the subject's last sequence there is still the one it saw.
 * What is not known to have happened is looked for, by its revision. A deleted key leaves a marker;
 * "absent" means nothing at all, or such a marker.
 */
#include "libkoal/bus/bus_nats_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CREATING_MS = 5000, TURN_TRIES = 20, TURN_PAUSE_US = 5000 };
enum { CHANGE_TRIES = 4, CHANGE_WAIT_MS = 2000 };
enum { HISTORY = 8 };                                  /* a watcher sees quick changes, too */
enum { HEADERS_MAX = 1024 };                           /* the server counts them to the value */
enum { SUBJECT_MAX = KL_BUSN_NAME_MAX + KL_BUS_KEY_MAX + 8 };

void kl_busn_bucket_name(const struct kl_busn *b, char name[KL_BUSN_NAME_MAX + 1])
{
    snprintf(name, KL_BUSN_NAME_MAX + 1, "KOA_%s", b->cell);
}

static void subject_of(const struct kl_busn *b, const char *key, char subject[SUBJECT_MAX + 1])
{
    snprintf(subject, SUBJECT_MAX + 1, "$KV.KOA_%s.%s", b->cell, key);
}

/* On a job thread: the bucket, made where there is none. */
enum kl_code kl_busn_bucket(struct kl_busn *b, struct kl_err *err)
{
    char       name[KL_BUSN_NAME_MAX + 1];
    kvStore   *kv = NULL;
    kvConfig   c;
    natsStatus s;
    char       why[160] = "";                          /* it could not be made */

    if (atomic_load(&b->bucket_ready))
        return KL_OK;
    kl_busn_bucket_name(b, name);
    s = js_KeyValue(&kv, b->js, name);
    if (s == NATS_NOT_FOUND && b->options.create) {
        kvConfig_Init(&c);
        c.Bucket = name;
        c.History = HISTORY;
        c.MaxValueSize = KL_BUS_VALUE_MAX + HEADERS_MAX;
        c.StorageType = js_FileStorage;
        c.Replicas = (int)b->options.log_replicas;
        s = js_CreateKeyValue(&kv, b->js, &c);
        if (s != NATS_OK) {
            const char *said = nats_GetLastError(NULL), *words = said != NULL ? strstr(said, "): ") : NULL;

            /* "(file:line): words" */
            snprintf(why, sizeof why, "%s", words != NULL ? words + 3 : natsStatus_GetText(s));
            s = js_KeyValue(&kv, b->js, name);         /* somebody else may have made it just now */
        } else
            kl_logf(b->log, KL_INFO, "made KV bucket %s at %s", name, b->url);
    }
    if (s == NATS_NOT_FOUND && why[0] != '\0')
        return kl_fail(err, KL_EAGAIN, "the KV bucket %s cannot be made at %s (%s): log.replicas is %d, and that many NATS "
                       "servers with JetStream and room have to be there", name, b->url, why, (int)b->options.log_replicas);
    if (s == NATS_NOT_FOUND)
        return kl_fail(err, KL_EAGAIN, "there is no KV bucket %s at %s, and we are not to make it",
                       name, b->url);
    if (s != NATS_OK) {
        kl_busn_code(b, s, 0, "open the KV bucket", err);
        return err->code = KL_EAGAIN;
    }
    kvStore_Destroy(kv);
    atomic_store(&b->bucket_ready, true);
    return KL_OK;
}

/* ---- operations, on a job thread ---- */

uint64_t kl_busn_revision(natsMsg *msg, uint64_t seq)
{
    const char *text = NULL;
    uint64_t    n;
    char       *end;

    if (natsMsgHeader_Get(msg, KL_BUSN_REVISION, &text) != NATS_OK || text == NULL || text[0] == '\0')
        return seq;
    n = strtoull(text, &end, 10);
    return *end == ' ' && n != 0 && n != UINT64_MAX ? n : seq;
}

bool kl_busn_is_marker(natsMsg *msg)
{
    const char *op = NULL;

    return natsMsgHeader_Get(msg, "KV-Operation", &op) == NATS_OK && op != NULL &&
           (strcmp(op, "DEL") == 0 || strcmp(op, "PURGE") == 0);
}

/* The last message of a key, a marker or a value; KL_ENOENT without one. */
static enum kl_code last_of(struct kl_busn *b, const char *key, int64_t wait_ms, natsMsg **msg,
                            struct kl_err *err)
{
    char       name[KL_BUSN_NAME_MAX + 1], stream[KL_BUSN_NAME_MAX + 8], subject[SUBJECT_MAX + 1];
    jsErrCode  e = 0;
    jsOptions  o;
    natsStatus s;

    kl_busn_bucket_name(b, name);
    snprintf(stream, sizeof stream, "KV_%s", name);
    subject_of(b, key, subject);
    jsOptions_Init(&o);
    o.Wait = wait_ms;
    s = js_GetLastMsg(msg, b->js, stream, subject, &o, &e);
    if (s == NATS_OK)
        return KL_OK;
    if (e == JSNoMessageFoundErr)
        return kl_fail(err, KL_ENOENT, "there is no key %s", key);
    atomic_store(&b->bucket_ready, false);
    kl_busn_code(b, s, e, "look up a key", err);
    return err->code = KL_EAGAIN;                      /* a look may be repeated */
}

static enum kl_code get(struct kl_busn *b, struct kl_bus_kv *op, int64_t wait_ms,
                        struct kl_err *err)
{
    natsMsg *msg = NULL;
    size_t   size;

    if (last_of(b, op->key, wait_ms, &msg, err) != KL_OK)
        return err->code;
    if (kl_busn_is_marker(msg)) {
        natsMsg_Destroy(msg);
        return kl_fail(err, KL_ENOENT, "there is no key %s", op->key);
    }
    size = (size_t)natsMsg_GetDataLength(msg);
    if (size > KL_BUS_VALUE_MAX) {
        natsMsg_Destroy(msg);
        return kl_fail(err, KL_ELIMIT, "the value of %s has %zu bytes", op->key, size);
    }
    op->got = kl_new(size > 0 ? size : 1);
    op->got_size = size;
    if (size > 0)
        memcpy(op->got, natsMsg_GetData(msg), size);
    op->revision = kl_busn_revision(msg, natsMsg_GetSequence(msg));
    natsMsg_Destroy(msg);
    return KL_OK;
}

/* What stands under a key at the leader. */
enum { STAMP_MAX = KL_BUSN_INBOX_MAX + 48 };
struct there { uint64_t seq, revision; bool is, marker, empty; char stamp[STAMP_MAX + 1]; };

static enum kl_code look_up(struct kl_busn *b, const char *key, int64_t wait_ms, struct there *t,
                            struct kl_err *err)
{
    natsMsg     *msg = NULL;
    const char  *stamp = NULL;
    enum kl_code code = last_of(b, key, wait_ms, &msg, err);

    *t = (struct there){ 0 };
    if (code == KL_ENOENT) {
        *err = (struct kl_err){ 0 };
        return KL_OK;
    }
    if (code != KL_OK)
        return code;
    t->seq = natsMsg_GetSequence(msg);
    t->revision = kl_busn_revision(msg, t->seq);
    t->marker = kl_busn_is_marker(msg);
    t->is = !t->marker;
    t->empty = natsMsg_GetDataLength(msg) == 0;
    if (natsMsgHeader_Get(msg, KL_BUSN_REVISION, &stamp) == NATS_OK && stamp != NULL)
        snprintf(t->stamp, sizeof t->stamp, "%s", stamp);
    natsMsg_Destroy(msg);
    return KL_OK;
}

/* `value` under a key whose last message is `seq`, 0: which has none, UINT64_MAX: whatever. NULL at:
 * a marker. KL_EEXIST: it has another. KL_EAGAIN: nothing happened. KL_ETIMEOUT: nobody knows. */
static enum kl_code publish(struct kl_busn *b, const char *key, struct kl_span value, bool delete,
                            uint64_t seq, const char *stamp, int64_t wait_ms, struct kl_err *err)
{
    char         subject[SUBJECT_MAX + 1];
    jsPubOptions o;
    jsErrCode    e = 0;
    natsMsg     *msg = NULL;
    natsStatus   s;

    subject_of(b, key, subject);
    jsPubOptions_Init(&o);
    o.MaxWait = wait_ms;
    o.ExpectNoMessage = seq == 0;
    if (seq > 0 && seq != UINT64_MAX)
        o.ExpectLastSubjectSeq = seq;
    s = natsMsg_Create(&msg, subject, NULL, delete ? NULL : value.at, delete ? 0 : (int)value.size);
    if (s == NATS_OK)
        s = natsMsgHeader_Set(msg, KL_BUSN_REVISION, stamp);
    if (s == NATS_OK && delete)
        s = natsMsgHeader_Set(msg, "KV-Operation", "DEL");
    if (s == NATS_OK)
        s = js_PublishMsg(NULL, b->js, msg, &o, &e);
    natsMsg_Destroy(msg);
    if (s == NATS_OK)
        return KL_OK;
    if (e == JSStreamWrongLastSequenceErr)
        return kl_fail(err, KL_EEXIST, "key %s has changed", key);
    kl_busn_code(b, s, e, "change a key", err);
    if (s == NATS_NO_RESPONDERS)
        atomic_store(&b->bucket_ready, false);
    if (s == NATS_TIMEOUT || s == NATS_CONNECTION_DISCONNECTED || s == NATS_CONNECTION_CLOSED)
        err->code = KL_ETIMEOUT;
    return err->code;
}

/* The next revision, and its stamp, which nobody else has. */
static uint64_t next_stamp(struct kl_busn *b, const struct there *t, char stamp[STAMP_MAX + 1])
{
    uint64_t now = (uint64_t)kl_env_now_ms(b->env) * 1000000, next = now > t->revision ? now : t->revision + 1;

    snprintf(stamp, STAMP_MAX + 1, "%" PRIu64 " %s.%" PRIu64, next, b->inbox,
             atomic_fetch_add(&b->stamps, 1));
    return next;
}

/* ---- keys that are not there yet ----
 *
 * An expectation of nothing that fails is one of the things that make replicas of 2.9 differ
 * (bus_nats_log.c); other expectations are checked before they are proposed. So in a bucket with
 * replicas one at a time makes a key, in the whole cell: whoever has the turn, another key.
 */
static const char turn_key[] = "creating";

/* With create_lock held. KL_EAGAIN: it is somebody else's; of one who keeps it for long it is taken. */
static enum kl_code turn_take(struct kl_busn *b, int64_t wait_ms, struct kl_err *err)
{
    struct there t;
    char         stamp[STAMP_MAX + 1];
    int64_t      now_ns = kl_env_mono_ns(b->env);
    enum kl_code code = look_up(b, turn_key, wait_ms, &t, err);

    if (code != KL_OK)
        return code;
    next_stamp(b, &t, stamp);
    if (t.seq == 0) {                                  /* once in a cell's life */
        code = publish(b, turn_key, kl_span("", 0), false, UINT64_MAX, stamp, wait_ms, err);
        return code == KL_OK ? kl_fail(err, KL_EAGAIN, "keys are made one at a time") : code;
    }
    if (!t.empty && b->creating != t.revision) {
        b->creating = t.revision;
        b->creating_ns = now_ns;
    }
    if (!t.empty && now_ns - b->creating_ns < CREATING_MS * INT64_C(1000000))
        return kl_fail(err, KL_EAGAIN, "somebody else makes a key at %s", b->url);
    code = publish(b, turn_key, kl_span_str(b->inbox), false, t.seq, stamp, wait_ms, err);
    return code == KL_EEXIST ? (err->code = KL_EAGAIN) : code;
}

static void turn_give(struct kl_busn *b, int64_t wait_ms)
{
    struct there  t;
    struct kl_err err = { 0 };
    char          stamp[STAMP_MAX + 1];

    if (look_up(b, turn_key, wait_ms, &t, &err) != KL_OK || t.seq == 0 || t.empty)
        return;
    next_stamp(b, &t, stamp);
    publish(b, turn_key, kl_span("", 0), false, t.seq, stamp, wait_ms, &err);
}

/* KL_EEXIST also where somebody was first. */
static enum kl_code create(struct kl_busn *b, struct kl_bus_kv *op, const char *stamp, int64_t wait_ms,
                           struct kl_err *err)
{
    enum kl_code code = KL_EAGAIN;
    struct there t;

    if (b->options.log_replicas == 1)
        return publish(b, op->key, op->value, false, 0, stamp, wait_ms, err);
    pthread_mutex_lock(&b->create_lock);
    for (int i = 0; code == KL_EAGAIN && i < TURN_TRIES; i++) {
        if (i > 0)
            usleep(TURN_PAUSE_US + kl_env_draw(b->env) % TURN_PAUSE_US);
        code = turn_take(b, wait_ms, err);
    }
    if (code == KL_OK) {
        code = look_up(b, op->key, wait_ms, &t, err);
        if (code == KL_OK)
            code = t.seq != 0 ? kl_fail(err, KL_EEXIST, "key %s is there already", op->key)
                 : publish(b, op->key, op->value, false, 0, stamp, wait_ms, err);
        turn_give(b, wait_ms);
    }
    pthread_mutex_unlock(&b->create_lock);
    return code;
}

/* ---- changes ---- */

static bool fits(const struct kl_bus_kv *op, const struct there *t)
{
    return op->expect == UINT64_MAX || (op->expect == 0 ? !t->is : t->is && t->revision == op->expect);
}

/* A put or a deletion. One whose answer did not come is looked for by its stamp. */
static enum kl_code change_key(struct kl_busn *b, struct kl_bus_kv *op, int64_t wait_ms, struct kl_err *err)
{
    bool         delete = op->kind == KL_BUS_KV_DELETE;
    char         stamp[STAMP_MAX + 1] = "";
    uint64_t     tried = 0;
    enum kl_code code = KL_OK;

    for (int i = 0; i < CHANGE_TRIES; i++) {
        struct there t;

        *err = (struct kl_err){ 0 };
        if (look_up(b, op->key, wait_ms, &t, err) != KL_OK)
            return tried != 0 ? (err->code = KL_ETIMEOUT) : err->code;
        if (tried != 0 && strcmp(t.stamp, stamp) == 0) {
            op->revision = tried;
            return KL_OK;
        }
        if (delete && !t.is && (op->expect == UINT64_MAX || op->expect == 0))
            return kl_fail(err, KL_ENOENT, "there is no key %s", op->key);
        if (!fits(op, &t) && op->expect == 0)
            return kl_fail(err, KL_EEXIST, "key %s is there already", op->key);
        if (!fits(op, &t))
            return kl_fail(err, KL_EEXIST, "key %s is no longer at revision %" PRIu64, op->key, op->expect);
        tried = next_stamp(b, &t, stamp);
        code = t.seq == 0 ? create(b, op, stamp, wait_ms, err)
             : publish(b, op->key, op->value, delete, t.seq, stamp, wait_ms, err);
        if (code == KL_OK) {
            op->revision = tried;
            return KL_OK;
        }
        if (code != KL_EEXIST && code != KL_ETIMEOUT)
            return code;
    }
    return code == KL_EEXIST ? kl_fail(err, KL_EAGAIN, "key %s changes all the time", op->key) : code;
}

struct change { struct kl_busn_job job; struct kl_bus_kv *op; };

enum kl_code kl_busn_kv_now(struct kl_busn *b, struct kl_bus_kv *op, int64_t wait_ms,
                            struct kl_err *err)
{
    if (kl_busn_bucket(b, err) != KL_OK)
        return err->code;
    if (op->kind == KL_BUS_KV_GET)
        return get(b, op, wait_ms, err);
    return change_key(b, op, wait_ms < CHANGE_WAIT_MS ? wait_ms : CHANGE_WAIT_MS, err);
}

static enum kl_code op_run(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err)
{
    return kl_busn_kv_now(j->bus, kl_container_of(j, struct change, job)->op, wait_ms, err);
}

static void op_done(struct kl_env_task *task)
{
    struct kl_bus_kv *op = kl_container_of(task, struct kl_bus_kv, task);

    op->done(op);
}

static void complete(struct kl_busn *b, struct kl_bus_kv *op, enum kl_code code)
{
    op->code = code;
    op->task.run = op_done;
    kl_busn_post(b, op->loop, &op->task);
}

static void op_over(struct kl_busn_job *j, enum kl_code code, struct kl_err *err)
{
    struct change *k = kl_container_of(j, struct change, job);

    k->op->err = *err;
    complete(j->bus, k->op, code);
    free(k);
}

static void on_op(struct kl_env_task *task)
{
    struct kl_bus_kv *op = kl_container_of(task, struct kl_bus_kv, task);
    struct kl_busn   *b = op->own;
    struct change    *k = kl_new(sizeof *k);

    k->op = op;
    k->job.run = op_run;
    k->job.over = op_over;
    k->job.deadline_ns = kl_busn_deadline(b, b->options.op_timeout_ms);
    kl_busn_job_start(b, &k->job);
}

void kl_busn_kv(struct kl_bus *bus, struct kl_bus_kv *op)
{
    struct kl_busn *b = kl_busn(bus);

    op->err = (struct kl_err){ 0 };
    op->got = NULL;
    op->got_size = 0;
    op->own = b;
    if (kl_bus_fit_kv(op, &op->err) != KL_OK ||
        kl_busn_hand(b, &op->task, on_op, &op->err) != KL_OK)
        complete(b, op, op->err.code);
}
