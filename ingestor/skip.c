/*
 * A record that cannot be read stops its partition: nothing after it is applied, for it may define
 * or decide something. An operator may look at it and tell everybody to pass it over: a list in the
 * KV (libtsproto/logmark.h), read when a partition is loaded, and looked at while one is stopped. A
 * partition that was stopped begins anew then, so that nothing of the record is in it.
 */
#include "ingestor/ing_priv.h"

#include "libkoal/base/json.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK_MS = 2000 };

static void ask(struct ing_partition *p, struct kl_bus_kv op, void (*done)(struct kl_bus_kv *op))
{
    struct ing_skips *s = &p->skips;

    s->out = true;
    s->kv = op;
    s->kv.loop = p->shard->loop;
    s->kv.done = done;
    tsp_logskip_key(s->kv.key, sizeof s->kv.key, p->number);
    p->i->bus->kv(p->i->bus, &s->kv);
}

static enum kl_code take(struct ing_skips *s, struct kl_bus_kv *op)
{
    enum kl_code code = op->code;

    if (code == KL_OK) {
        code = tsp_logskip_decode(kl_span(op->got, op->got_size), &s->is, &op->err);
        free(op->got);
        s->revision = op->revision;
    } else if (code == KL_ENOENT) {
        s->is = (struct tsp_logskip){ 0 };
        s->revision = 0;
        code = KL_OK;
    }
    return code;
}

static void loaded(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, skips.kv);

    p->skips.out = false;
    p->skips.loaded(p, take(&p->skips, op), &op->err);
}

void ing_skips_load(struct ing_partition *p, void (*done)(struct ing_partition *p, enum kl_code code,
                                                          const struct kl_err *err))
{
    p->skips.loaded = done;
    p->skips.bad.seq = 0;
    ask(p, (struct kl_bus_kv){ .kind = KL_BUS_KV_GET }, loaded);
}

bool ing_skips_has(const struct ing_partition *p, uint64_t seq)
{
    return p->skips.is.count > 0 && tsp_logskip_has(&p->skips.is, p->incarnation, seq);
}

void ing_skips_bad(struct ing_partition *p, const struct kl_bus_record *rec)
{
    struct ing_skips *s = &p->skips;

    s->bad.seq = rec->seq;
    s->bad.size = rec->bytes.size;
    s->bad.hash = kl_hash64(rec->bytes.at, rec->bytes.size);
    memset(s->bad.head, 0, sizeof s->bad.head);
    memcpy(s->bad.head, rec->bytes.at, rec->bytes.size < ING_BAD_HEAD ? rec->bytes.size : ING_BAD_HEAD);
}

/* ---- while it is stopped ---- */

static void resume(struct ing_partition *p)
{
    if (atomic_load(&p->state) != ING_BROKEN || p->skips.bad.seq == 0 ||
        !ing_skips_has(p, p->skips.bad.seq))
        return;
    kl_logf(p->i->o.log, KL_WARN, "ingestor: partition %" PRIu32 ": record %" PRIu64 " is passed over, as "
            "an operator wished; beginning anew from the catalogue", p->number, p->skips.bad.seq);
    ing_partition_anew(p, "a record is skipped; the catalogue and the log are read anew");
}

static void looked(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, skips.kv);

    ing_in(p->i);
    p->skips.out = false;
    if (take(&p->skips, op) == KL_OK && !ing_stopping(p))
        resume(p);
}

void ing_skips_tick(struct ing_partition *p)
{
    struct ing_skips *s = &p->skips;
    int64_t           now_ns = kl_env_mono_ns(p->i->env);

    if (s->bad.seq == 0 || s->out || s->ask != NULL || now_ns < s->again_ns || ing_stopping(p))
        return;
    s->again_ns = now_ns + LOOK_MS * INT64_C(1000000);
    ing_out(p->i);
    ask(p, (struct kl_bus_kv){ .kind = KL_BUS_KV_GET }, looked);
}

/* ---- an operator asks ---- */

static void answer(struct ing_log_ask *a)
{
    a->partition->i->env->sched->post(a->loop, &a->task);
}

static void skipped(struct kl_bus_kv *op)
{
    struct ing_partition *p = kl_container_of(op, struct ing_partition, skips.kv);
    struct ing_skips     *s = &p->skips;
    struct ing_log_ask   *a = s->ask;

    ing_in(p->i);
    s->out = false;
    s->ask = NULL;
    kl_buf_deinit(&s->bytes);
    a->err = op->err;
    a->err.code = op->code;
    if (op->code == KL_OK) {
        s->is = s->next;
        s->revision = op->revision;
        if (!ing_stopping(p))
            resume(p);
    }
    answer(a);
}

static void skip(struct kl_env_task *task)
{
    struct ing_log_ask   *a = kl_container_of(task, struct ing_log_ask, task);
    struct ing_partition *p = a->partition;
    struct ing_skips     *s = &p->skips;

    a->task.run = a->back;
    if (s->out || s->ask != NULL || ing_stopping(p)) {
        kl_fail(&a->err, KL_EAGAIN, "partition %" PRIu32 " is just being looked at: ask again", p->number);
    } else if (atomic_load(&p->state) != ING_BROKEN || s->bad.seq == 0) {
        kl_fail(&a->err, KL_EINVAL, "partition %" PRIu32 " is not stopped at a record that cannot be read",
                p->number);
    } else if (a->seq != s->bad.seq) {
        kl_fail(&a->err, KL_EINVAL, "partition %" PRIu32 " is stopped at record %" PRIu64 ", not %" PRIu64,
                p->number, s->bad.seq, a->seq);
    } else {
        s->next = s->is;
        if (tsp_logskip_add(&s->next, p->incarnation, a->seq, &a->err) == KL_OK) {
            a->err = (struct kl_err){ 0 };
            s->ask = a;
            kl_buf_init(&s->bytes, KL_BUS_VALUE_MAX);
            tsp_logskip_encode(&s->next, &s->bytes);
            ing_out(p->i);
            ask(p, (struct kl_bus_kv){ .kind = KL_BUS_KV_PUT, .value = kl_buf_span(&s->bytes),
                                       .expect = s->revision }, skipped);
            return;
        }
    }
    answer(a);
}

static void show(struct kl_env_task *task)
{
    static const char *const  states[] = { "away", "loading", "replaying", "live", "stopped" };
    struct ing_log_ask       *a = kl_container_of(task, struct ing_log_ask, task);
    struct ing_partition     *p = a->partition;
    const struct ing_skips   *s = &p->skips;
    int                       state = atomic_load(&p->state);

    a->task.run = a->back;
    if (state != ING_AWAY) {
        kl_buf_addf(&a->json, "%s{\"partition\":%" PRIu32 ",\"state\":\"%s\",\"incarnation\":\"%" PRIu64
                    "\",\"accepted\":\"%" PRIu64 "\",\"applied\":%" PRIu64 ",\"behind\":%" PRIu64
                    ",\"staleMs\":%" PRId64 ",\"skipped\":%" PRIu32, a->json.size > 0 ? "," : "",
                    p->number, states[state], p->incarnation, p->logmark.is.incarnation, p->applied,
                    atomic_load(&p->m_behind), ing_log_stale_ms(p), s->is.count);
        if (p->words.code != KL_OK) {
            kl_buf_adds(&a->json, ",\"words\":");
            kl_json_cstr(&a->json, p->words.text);
        }
        if (state == ING_BROKEN && s->bad.seq != 0) {
            kl_buf_addf(&a->json, ",\"record\":{\"seq\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"xxh3\":\"%016"
                        PRIx64 "\",\"head\":\"", s->bad.seq, s->bad.size, s->bad.hash);
            for (uint64_t i = 0; i < s->bad.size && i < ING_BAD_HEAD; i++)
                kl_buf_addf(&a->json, "%02x", s->bad.head[i]);
            kl_buf_adds(&a->json, "\"}");
        }
        kl_buf_adds(&a->json, "}");
    }
    answer(a);
}

void ing_log_ask(struct ing_ingestor *i, struct ing_log_ask *a, uint32_t partition)
{
    a->partition = &i->partitions[partition];
    a->err = (struct kl_err){ 0 };
    a->task.run = a->seq != 0 ? skip : show;
    i->env->sched->post(a->partition->shard->loop, &a->task);
}
