/* The simulated bus: questions and who answers them. */
#include "libkoal/bus/bus_sim_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct asked {
    struct kl_bsim_message m;                          /* to who serves, then back to the servers */
    struct kl_env_task task;
    struct kl_bus_question question;
    struct kl_bsim_call *call;                         /* a reference */
    struct kl_bsim_service *to;                        /* the same */
    enum kl_code code;
    void *answer; size_t size;
};

static void service_unref(struct kl_bsim_service *v)
{
    struct kl_bsim_service **at = &v->client->services;

    if (--v->refs > 0)
        return;
    while (*at != v)
        at = &(*at)->next;
    *at = v->next;
    free(v);
}

static void drop(struct kl_bsim_message *m)
{
    struct asked *a = kl_container_of(m, struct asked, m);

    service_unref(a->to);
    kl_bsim_unref(a->call);
    free(a->answer);
    free(a);
}

static void answer_arrives(struct kl_bsim_message *m)
{
    struct asked        *a = kl_container_of(m, struct asked, m);
    struct kl_bsim_call *call = a->call;

    if (a->code != KL_OK)
        kl_fail(&call->err, a->code, "%.*s", (int)a->size, a->answer == NULL ? "" : (const char *)a->answer);
    call->got = a->answer;
    call->got_size = a->size;
    a->answer = NULL;
    call->refs++;                                      /* the reply's; drop takes this question's */
    kl_bsim_reply(call, a->code);
    drop(m);
}

static void settle(struct asked *a, enum kl_code code, void *answer, size_t size)
{
    a->code = code;
    a->answer = answer;
    a->size = size;
    a->m = (struct kl_bsim_message){ .arrive = answer_arrives, .lost = drop };
    kl_bsim_send(&a->to->client->up, &a->m, true);
}

static void answer_words(struct asked *a, enum kl_code code, const char *words)
{
    settle(a, code, kl_strdup(words), strlen(words));
}

static void bus_answer(struct kl_bus *b, struct kl_bus_question *q, enum kl_code code, struct kl_span bytes)
{
    struct asked *a = q->own;
    char         *copy = kl_new(bytes.size + 1);

    (void)b;
    if (bytes.size > 0)
        memcpy(copy, bytes.at, bytes.size);
    if (code == KL_OK && bytes.size > KL_BUS_MESSAGE_MAX) {
        free(copy);
        answer_words(a, KL_ELIMIT, "an answer larger than a message");
    } else {
        settle(a, code, copy, bytes.size);
    }
}

static void asked_now(struct kl_env_task *task)
{
    struct asked *a = kl_container_of(task, struct asked, task);

    if (a->to->s == NULL)
        answer_words(a, KL_EAGAIN, "it is served no more");
    else
        a->to->s->question(a->to->s, &a->question);
}

static void question_arrives(struct kl_bsim_message *m)
{
    struct asked *a = kl_container_of(m, struct asked, m);

    if (a->to->s == NULL) {
        answer_words(a, KL_EAGAIN, "it is served no more");
        return;
    }
    a->task.run = asked_now;
    a->to->client->bus.env->sched->post(a->to->s->loop, &a->task);
}

/* One of those that serve it, whichever. */
static struct kl_bsim_service *who_serves(struct kl_bus_sim *s, const char *subject)
{
    struct kl_bsim_service *found = NULL;
    unsigned                count = 0;

    for (struct kl_bsim_client *c = s->clients; c != NULL; c = c->next)
        for (struct kl_bsim_service *v = c->services; v != NULL; v = v->next)
            if (v->s != NULL && strcmp(v->s->subject, subject) == 0 && kl_bsim_draw(s) % ++count == 0)
                found = v;
    return found;
}

static void ask_arrives(struct kl_bsim_call *call)
{
    struct kl_bsim_service *v = who_serves(call->client->sim, call->name);
    struct asked           *a;

    if (v == NULL) {
        kl_bsim_reply(call, kl_fail(&call->err, KL_EAGAIN, "nobody serves %s", call->name));
        return;
    }
    a = kl_new(sizeof *a);
    a->call = call;                                    /* the request's reference */
    a->to = v;
    v->refs++;
    a->question = (struct kl_bus_question){ .bytes = kl_span(call->bytes, call->size), .own = a };
    a->m = (struct kl_bsim_message){ .arrive = question_arrives, .lost = drop };
    kl_bsim_send(&v->client->down, &a->m, true);
}

static void bus_ask(struct kl_bus *b, struct kl_bus_ask *op)
{
    struct kl_bsim_call *call;

    op->err = (struct kl_err){ 0 };
    op->answer = NULL;
    op->answer_size = 0;
    call = kl_bsim_call(b, KL_BSIM_ASK, op, op->timeout_ms, op->question, ask_arrives);
    if (call == NULL)
        return;
    snprintf(call->name, sizeof call->name, "%s", op->subject);
    kl_bsim_send(&call->client->up, &call->up, true);
}

static void bus_serve(struct kl_bus *b, struct kl_bus_service *s)
{
    struct kl_bsim_client  *c = kl_bsim_client_of(b);
    struct kl_bsim_service *v;

    s->own = NULL;
    if (c->closed || s->plain)
        return;
    v = kl_new(sizeof *v);
    *v = (struct kl_bsim_service){ .client = c, .s = s, .refs = 1, .next = c->services };
    c->services = v;
    s->own = v;
}

static void bus_unserve(struct kl_bus *b, struct kl_bus_service *s)
{
    struct kl_bsim_service *v = s->own;

    (void)b;
    if (v == NULL)
        return;
    s->own = NULL;
    v->s = NULL;
    service_unref(v);
}

void kl_bsim_ask_ops(struct kl_bus *b)
{
    b->ask = bus_ask;
    b->answer = bus_answer;
    b->serve = bus_serve;
    b->unserve = bus_unserve;
}
