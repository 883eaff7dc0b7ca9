/* Calls: requests whose answers come to an inbox of ours, and find their way back by a number. */
#include "libkoal/bus/bus_nats_priv.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t kl_busn_call_open(struct kl_busn *b, struct kl_busn_call *c)
{
    if (b->spare_count == 0) {
        uint32_t room = b->calls_room > 0 ? 2 * b->calls_room : 256;

        if (room > KL_BUSN_CALLS_MAX)
            return 0;
        b->calls = kl_resize(b->calls, room * sizeof(struct kl_busn_call *));
        b->generations = kl_resize(b->generations, room * sizeof *b->generations);
        b->spare = kl_resize(b->spare, room * sizeof *b->spare);
        for (uint32_t i = room; i-- > b->calls_room;) {
            b->calls[i] = NULL;
            b->generations[i] = 0;
            b->spare[b->spare_count++] = i;
        }
        b->calls_room = room;
    }
    c->slot = b->spare[--b->spare_count];
    c->generation = ++b->generations[c->slot];
    b->calls[c->slot] = c;
    return (uint64_t)c->generation << 32 | c->slot;
}

void kl_busn_call_close(struct kl_busn *b, struct kl_busn_call *c)
{
    if (c->generation == 0)
        return;
    assert(b->calls[c->slot] == c);
    b->calls[c->slot] = NULL;
    b->spare[b->spare_count++] = c->slot;
    c->generation = 0;
}

struct kl_busn_call *kl_busn_call_find(struct kl_busn *b, uint64_t call)
{
    uint32_t slot = (uint32_t)call, generation = (uint32_t)(call >> 32);

    if (slot >= b->calls_room || b->calls[slot] == NULL || b->calls[slot]->generation != generation)
        return NULL;
    return b->calls[slot];
}

static void on_reply(struct kl_env_task *task)
{
    struct kl_busn_reply *r = kl_container_of(task, struct kl_busn_reply, task);
    struct kl_busn_call  *c = kl_busn_call_find(r->bus, r->call);

    if (c != NULL && c->append != NULL)
        kl_busn_append_reply(r->bus, c, r);
    else if (c != NULL)
        kl_busn_ask_reply(r->bus, c, r);
    free(r->bytes);
    free(r);
}

/* On a thread of libnats: what came to an inbox, made small and posted. */
static struct kl_busn_reply *reply_of(struct kl_busn *b, natsMsg *msg)
{
    struct kl_busn_reply *r;
    const char *dot = strrchr(natsMsg_GetSubject(msg), '.');
    char *end;
    uint64_t call = dot != NULL ? strtoull(dot + 1, &end, 10) : 0;

    if (dot == NULL || call == 0 || *end != '\0')
        return NULL;
    r = kl_new(sizeof *r);
    r->bus = b;
    r->call = call;
    r->kind = natsMsg_IsNoResponders(msg) ? KL_BUSN_NOBODY : KL_BUSN_ANSWER;
    r->task.run = on_reply;
    return r;
}

void kl_busn_on_ack(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct kl_busn       *b = closure;
    struct kl_busn_reply *r = reply_of(b, msg);

    (void)nc, (void)sub;
    if (r != NULL) {
        if (r->kind == KL_BUSN_ANSWER &&
            !kl_busn_ack_parse(natsMsg_GetData(msg), (size_t)natsMsg_GetDataLength(msg), r)) {
            r->ok = false;
            r->err_code = 0;
            snprintf(r->text, sizeof r->text, "an ack that is none");
        }
        kl_busn_post(b, b->loop, &r->task);
    }
    natsMsg_Destroy(msg);
}

/* An answer is a byte of enum kl_code, then the bytes or the words. */
void kl_busn_on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure)
{
    struct kl_busn       *b = closure;
    struct kl_busn_reply *r = reply_of(b, msg);
    size_t size = (size_t)natsMsg_GetDataLength(msg);
    const char *at = natsMsg_GetData(msg);

    (void)nc, (void)sub;
    if (r != NULL && r->kind == KL_BUSN_ANSWER) {
        r->code = size > 0 && (uint8_t)at[0] <= KL_ECANCELED ? (enum kl_code)at[0] : KL_ECORRUPT;
        if (r->code == KL_ECORRUPT && (size == 0 || (uint8_t)at[0] != KL_ECORRUPT)) {
            snprintf(r->text, sizeof r->text, "an answer without a status");
        } else if (r->code != KL_OK) {
            size_t n = size - 1 < KL_BUSN_TEXT_MAX ? size - 1 : KL_BUSN_TEXT_MAX;

            memcpy(r->text, at + 1, n);
        } else if ((r->bytes = malloc(size)) == NULL) {
            r->code = KL_ELIMIT;
            snprintf(r->text, sizeof r->text, "no memory for an answer of %zu bytes", size);
        } else {
            r->size = size - 1;
            memcpy(r->bytes, at + 1, r->size);
        }
    }
    if (r != NULL)
        kl_busn_post(b, b->loop, &r->task);
    natsMsg_Destroy(msg);
}
