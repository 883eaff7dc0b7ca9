/* The simulated bus: keys and their watchers. A deleted key stays as a mark, so that who was away hears of it. */
#include "libkoal/bus/bus_sim_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct change {
    struct kl_bsim_message m;
    struct kl_env_task task;
    struct kl_bsim_watch *to;
    char   key[KL_BUS_KEY_MAX + 1];                    /* "": all have been told */
    bool   there;
    uint64_t revision;
    size_t size;
    char   value[];
};

static void watch_unref(struct kl_bsim_watch *w)
{
    struct kl_bsim_watch **at = &w->client->watches;

    if (--w->refs > 0)
        return;
    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    free(w);
}

static void drop(struct kl_bsim_message *m)
{
    struct change *c = kl_container_of(m, struct change, m);

    watch_unref(c->to);
    free(c);
}

static void told(struct kl_env_task *task)
{
    struct change       *c = kl_container_of(task, struct change, task);
    struct kl_bus_watch *w = c->to->w;

    if (w != NULL && c->key[0] == '\0' && !c->to->current) {
        c->to->current = true;
        w->current(w);
    } else if (w != NULL && c->key[0] != '\0') {
        w->change(w, c->key, c->there ? kl_span(c->value, c->size) : kl_span(NULL, 0), c->revision);
    }
    drop(&c->m);
}

static void arrives(struct kl_bsim_message *m)
{
    struct change *c = kl_container_of(m, struct change, m);

    if (c->to->w == NULL) {
        drop(m);
        return;
    }
    c->task.run = told;
    c->to->client->bus.env->sched->post(c->to->w->loop, &c->task);
}

static void tell(struct kl_bsim_watch *to, const struct kl_bsim_key *k)
{
    size_t         size = k != NULL && k->there ? k->size : 0;
    struct change *c = kl_new(sizeof *c + size + 1);

    c->m = (struct kl_bsim_message){ .arrive = arrives, .lost = drop };
    c->to = to;
    c->size = size;
    if (k != NULL) {
        snprintf(c->key, sizeof c->key, "%s", k->key);
        c->there = k->there;
        c->revision = k->revision;
        if (size > 0)
            memcpy(c->value, k->value, size);
    }
    to->refs++;
    kl_bsim_send(&to->client->down, &c->m, false);
}

static bool sees(const struct kl_bsim_watch *w, const char *key)
{
    return w->w != NULL && !w->client->cut && strncmp(key, w->prefix, strlen(w->prefix)) == 0;
}

static void changed(struct kl_bus_sim *s, const struct kl_bsim_key *k)
{
    for (struct kl_bsim_client *c = s->clients; c != NULL; c = c->next)
        for (struct kl_bsim_watch *w = c->watches; w != NULL; w = w->next)
            if (sees(w, k->key))
                tell(w, k);
}

static void tell_all(struct kl_bsim_watch *w)
{
    struct kl_bus_sim *s = w->client->sim;

    for (size_t i = 0; i < s->key_count; i++)
        if (sees(w, s->keys[i].key) && (s->keys[i].there || w->current))
            tell(w, &s->keys[i]);
    tell(w, NULL);
}

void kl_bsim_watches_again(struct kl_bsim_client *c)
{
    for (struct kl_bsim_watch *w = c->watches; w != NULL; w = w->next)
        if (w->w != NULL)
            tell_all(w);
}

/* ---- keys ---- */

static struct kl_bsim_key *find(struct kl_bus_sim *s, const char *key)
{
    for (size_t i = 0; i < s->key_count; i++)
        if (strcmp(s->keys[i].key, key) == 0)
            return &s->keys[i];
    return NULL;
}

static struct kl_bsim_key *make(struct kl_bus_sim *s, const char *key)
{
    s->keys = kl_resize(s->keys, (s->key_count + 1) * sizeof *s->keys);
    s->keys[s->key_count] = (struct kl_bsim_key){ .key = kl_strdup(key) };
    return &s->keys[s->key_count++];
}

static void set(struct kl_bus_sim *s, struct kl_bsim_key *k, const void *value, size_t size, bool there)
{
    free(k->value);
    k->value = kl_new(size + 1);
    if (size > 0)
        memcpy(k->value, value, size);
    k->size = size;
    k->there = there;
    k->revision = ++s->revision;
    changed(s, k);
}

static void op_arrives(struct kl_bsim_call *call)
{
    struct kl_bus_sim  *s = call->client->sim;
    struct kl_bsim_key *k = find(s, call->name);
    uint64_t            now = k != NULL && k->there ? k->revision : 0;

    if (call->kv_kind == KL_BUS_KV_GET || (call->kv_kind == KL_BUS_KV_DELETE && now == 0)) {
        if (now == 0) {
            kl_bsim_reply(call, kl_fail(&call->err, KL_ENOENT, "there is no key %s", call->name));
            return;
        }
        call->got = kl_new(k->size + 1);
        memcpy(call->got, k->value, k->size);
        call->got_size = k->size;
        call->seq = k->revision;
        kl_bsim_reply(call, KL_OK);
        return;
    }
    if (call->number != UINT64_MAX && call->number != now) {
        kl_bsim_reply(call, kl_fail(&call->err, KL_EEXIST, "%s was changed by another", call->name));
        return;
    }
    if (k == NULL)
        k = make(s, call->name);
    set(s, k, call->bytes, call->size, call->kv_kind == KL_BUS_KV_PUT);
    call->seq = k->revision;
    kl_bsim_reply(call, KL_OK);
}

static void bus_kv(struct kl_bus *b, struct kl_bus_kv *op)
{
    struct kl_bsim_call *call;

    assert(op->key[0] != '\0' && op->value.size <= KL_BUS_VALUE_MAX);
    op->err = (struct kl_err){ 0 };
    op->got = NULL;
    op->got_size = 0;
    call = kl_bsim_call(b, KL_BSIM_KV, op, 0, op->kind == KL_BUS_KV_PUT ? op->value : kl_span(NULL, 0),
                        op_arrives);
    if (call == NULL)
        return;
    call->kv_kind = op->kind;
    call->number = op->expect;
    snprintf(call->name, sizeof call->name, "%s", op->key);
    kl_bsim_send(&call->client->up, &call->up, true);
}

void kl_bus_sim_wipe(struct kl_bus_sim *s, const char *prefix)
{
    for (size_t i = 0; i < s->key_count; i++)
        if (s->keys[i].there && strncmp(s->keys[i].key, prefix, strlen(prefix)) == 0)
            set(s, &s->keys[i], NULL, 0, false);
}

static void bus_watch(struct kl_bus *b, struct kl_bus_watch *w)
{
    struct kl_bsim_client *c = kl_bsim_client_of(b);
    struct kl_bsim_watch  *to;

    w->own = NULL;
    if (c->closed)
        return;
    to = kl_new(sizeof *to);
    *to = (struct kl_bsim_watch){ .client = c, .w = w, .refs = 1, .next = c->watches };
    snprintf(to->prefix, sizeof to->prefix, "%s", w->prefix);
    c->watches = to;
    w->own = to;
    if (!c->cut)
        tell_all(to);
}

static void bus_unwatch(struct kl_bus *b, struct kl_bus_watch *w)
{
    struct kl_bsim_watch *to = w->own;

    (void)b;
    if (to == NULL)
        return;
    w->own = NULL;
    to->w = NULL;
    watch_unref(to);
}

void kl_bsim_kv_ops(struct kl_bus *b)
{
    b->kv = bus_kv;
    b->watch = bus_watch;
    b->unwatch = bus_unwatch;
}

void kl_bsim_kv_free(struct kl_bus_sim *s)
{
    for (size_t i = 0; i < s->key_count; i++) {
        free(s->keys[i].key);
        free(s->keys[i].value);
    }
    free(s->keys);
}
