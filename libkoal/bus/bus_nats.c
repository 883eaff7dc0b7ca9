/* The bus over NATS put together: opening, connections and their state, closing. */
#include "libkoal/bus/bus_nats_priv.h"
#include "libkoal/bus/bus_nats_nkey.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SERVERS_MAX = 32, RECONNECT_WAIT_MS = 250, CONNECT_MS = 2000, PING_MS = 2000 };
enum { SECRET_MAX = 1000, CLOSING_MS = 10000, TROUBLE_MS = 5000, REFUSAL_MS = 500, SIGN_TRIES = 5 };

enum kl_code kl_busn_canceled(struct kl_err *err)
{
    return kl_fail(err, KL_ECANCELED, "the bus was closed");
}

/* Refused twice, the library closes a connection for good: whoever restarts the process tries again. */
enum kl_code kl_busn_unreachable(struct kl_busn *b, struct kl_err *err)
{
    if (atomic_load(&b->denied))
        return kl_fail(err, KL_EAGAIN, "NATS at %s refuses this process: Authorization failed: put its "
                       "credentials right (nats.credentials.file, nats.url) and restart it", b->url);
    return kl_fail(err, KL_EAGAIN, "NATS at %s is out of reach: is it running, and is nats.url right?", b->url);
}

void kl_busn_trouble(struct kl_busn *b, const struct kl_err *err)
{
    pthread_mutex_lock(&b->trouble_lock);
    b->trouble = *err;
    b->trouble_ns = kl_env_mono_ns(b->env);
    pthread_mutex_unlock(&b->trouble_lock);
}

bool kl_busn_enter(struct kl_busn *b)
{
    atomic_fetch_add(&b->entered, 1);
    if (!atomic_load(&b->closed))
        return true;
    atomic_fetch_sub(&b->entered, 1);
    return false;
}

void kl_busn_leave(struct kl_busn *b) { atomic_fetch_sub(&b->entered, 1); }

enum kl_code kl_busn_hand(struct kl_busn *b, struct kl_env_task *task,
                          void (*run)(struct kl_env_task *task), struct kl_err *err)
{
    if (!kl_busn_enter(b))
        return kl_busn_canceled(err);
    task->run = run;
    kl_busn_post(b, b->loop, task);
    kl_busn_leave(b);
    return KL_OK;
}

natsConnection *kl_busn_nc(struct kl_busn *b, int connection)
{
    return b->connections[connection].nc;
}

/* ---- subscriptions ---- */

struct completion { struct kl_busn *bus; void (*complete)(void *closure); void *closure; };

static void on_complete(void *arg)
{
    struct completion *c = arg;
    struct kl_busn    *b = c->bus;

    if (c->complete != NULL)
        c->complete(c->closure);
    free(c);
    atomic_fetch_sub(&b->callbacks, 1);                /* the last thing: the bus may go now */
}

natsStatus kl_busn_subscribe(struct kl_busn *b, natsSubscription **sub, int connection,
                             const char *subject, const char *queue, natsMsgHandler handler,
                             void *closure, void (*complete)(void *closure))
{
    natsConnection *nc = kl_busn_nc(b, connection);
    natsStatus s = queue != NULL
                       ? natsConnection_QueueSubscribe(sub, nc, subject, queue, handler, closure)
                       : natsConnection_Subscribe(sub, nc, subject, handler, closure);
    struct completion *c;

    if (s != NATS_OK)
        return s;
    c = kl_new(sizeof *c);
    *c = (struct completion){ .bus = b, .complete = complete, .closure = closure };
    atomic_fetch_add(&b->callbacks, 1);
    s = natsSubscription_SetOnCompleteCB(*sub, on_complete, c);
    if (s != NATS_OK) {                                /* closed in between */
        atomic_fetch_sub(&b->callbacks, 1);
        free(c);
        natsSubscription_Destroy(*sub);
        *sub = NULL;
    }
    return s;
}

/* ---- connections ---- */

struct event { struct kl_env_task task; struct kl_busn *bus; int connection; };

static void on_up(struct kl_env_task *task)
{
    struct event   *e = kl_container_of(task, struct event, task);
    struct kl_busn *b = e->bus;

    if (!atomic_load(&b->closed)) {
        if (e->connection == KL_BUSN_BULK)
            kl_busn_log_up(b);
        if (e->connection == KL_BUSN_READ)
            kl_busn_taps_up(b);
    }
    free(e);
}

static void on_connected(natsConnection *nc, void *closure)
{
    struct kl_busn_connection *c = closure;
    struct kl_busn *b = c->bus;
    struct event   *e = kl_new(sizeof *e);

    (void)nc;
    atomic_store(&c->up, true);
    atomic_store(&b->denied, false);
    kl_count(b->reconnects, 1);
    *e = (struct event){ .task.run = on_up, .bus = b, .connection = (int)(c - b->connections) };
    if (e->connection == KL_BUSN_BULK)
        kl_logf(b->log, KL_INFO, "connected to NATS at %s", b->url);
    kl_busn_post(b, b->loop, &e->task);
}

static void on_disconnected(natsConnection *nc, void *closure)
{
    struct kl_busn_connection *c = closure;

    (void)nc;
    atomic_store(&c->up, false);
    if (c == &c->bus->connections[KL_BUSN_BULK] && !atomic_load(&c->bus->closed))
        kl_logf(c->bus->log, KL_WARN, "lost the connection to NATS at %s; trying again for ever",
                c->bus->url);
}

static void on_closed(natsConnection *nc, void *closure)
{
    struct kl_busn_connection *c = closure;
    const char                *words;
    natsStatus                 s;

    atomic_store(&c->up, false);
    s = natsConnection_GetLastError(nc, &words);
    /* Who was refused twice is taken off the list of servers; there is no other way to come to its end. */
    if (s == NATS_CONNECTION_AUTH_FAILED || s == NATS_NO_SERVER)
        atomic_store(&c->bus->denied, true);
    atomic_store(&c->closed, true);
}

static bool given(const char *text) { return text != NULL && text[0] != '\0'; }

static void on_error(natsConnection *nc, natsSubscription *sub, natsStatus err, void *closure)
{
    struct kl_busn_connection *c = closure;
    const char *why = NULL;

    (void)sub;
    if (err == NATS_CONNECTION_AUTH_FAILED)
        atomic_store(&c->bus->denied, true);
    (void)natsConnection_GetLastError(nc, &why);       /* names the subject that was not permitted */
    kl_logf(c->bus->log, KL_WARN, "NATS at %s: %s%s%.200s", c->bus->url, natsStatus_GetText(err),
            given(why) ? ": " : "", given(why) ? why : "");
}

/* The first line of a file, which is short; the library copies it. */
static natsStatus user(natsOptions *o, const struct kl_bus_nats_options *given_options)
{
    char       password[SECRET_MAX + 1] = "";
    int        fd = open(given_options->password_file, O_RDONLY | O_CLOEXEC);
    ssize_t    n = fd >= 0 ? read(fd, password, SECRET_MAX) : -1;
    natsStatus s = NATS_IO_ERROR;

    if (fd >= 0)
        close(fd);
    if (n > 0) {
        password[strcspn(password, "\r\n")] = '\0';
        s = natsOptions_SetUserInfo(o, given_options->user, password);
    }
    explicit_bzero(password, sizeof password);
    return s;
}

/* libnats 3.4.1 sends none of a signature that begins with a zero byte, one of 256 (seen in 19 of 5,000 connections),
 * and who is refused twice in a row is closed for good. So of such a one this try alone fails: the next has another nonce. */
static natsStatus sign(char **why, unsigned char **signature, int *size, const char *nonce, void *file)
{
    char      *seed = kl_nkey_seed(file);
    natsStatus s = seed != NULL ? nats_Sign(seed, nonce, signature, size) : NATS_ERR;

    if (seed != NULL)
        explicit_bzero(seed, strlen(seed));
    free(seed);
    if (s == NATS_OK && (*signature)[0] == 0) {
        free(*signature);
        *signature = NULL;
        *why = strdup("a signature that the library cannot send");
        return NATS_ERR;
    }
    if (s != NATS_OK)
        *why = strdup("the file has no seed of an NKey, or cannot be read");
    return s;
}

static natsStatus jwt(char **text, char **why, void *file)
{
    *text = kl_nkey_jwt(file);
    if (*text == NULL)
        *why = strdup("the file of credentials has no JWT, or cannot be read");
    return *text != NULL ? NATS_OK : NATS_ERR;
}

/* The files' names are the bus's, which outlives its connections. */
static natsStatus secrets(natsOptions *o, const struct kl_bus_nats_options *g)
{
    natsStatus s = NATS_OK;

    if (given(g->credentials_file))
        s = natsOptions_SetUserCredentialsCallbacks(o, jwt, (void *)g->credentials_file, sign,
                                                    (void *)g->credentials_file);
    else if (given(g->nkey_file))
        s = natsOptions_SetNKey(o, g->nkey_public, sign, (void *)g->nkey_file);
    else if (given(g->user))
        s = user(o, g);
    if (s == NATS_OK && given(g->ca_file)) {
        s = natsOptions_SetSecure(o, true);
        if (s == NATS_OK)
            s = natsOptions_LoadCATrustedCertificates(o, g->ca_file);
    }
    if (s == NATS_OK && given(g->cert_file)) {
        s = natsOptions_SetSecure(o, true);
        if (s == NATS_OK)
            s = natsOptions_LoadCertificatesChain(o, g->cert_file, g->key_file);
    }
    return s;
}

static natsStatus servers(natsOptions *o, const char *urls)
{
    const char *list[SERVERS_MAX];
    char *copy = kl_strdup(urls), *rest = copy, *one;
    int   count = 0;
    natsStatus s;

    while ((one = strtok_r(rest, ", ", &rest)) != NULL && count < SERVERS_MAX)
        list[count++] = one;
    s = count > 0 ? natsOptions_SetServers(o, list, count) : NATS_INVALID_ARG;
    free(copy);
    return s;
}

#define TRY(call) do { if (s == NATS_OK) s = (call); } while (0)

/*
 * A first try that fails by its signature is tried again by us: the library, if it is to go on by itself, has forgotten by then
 * which server that was, and closes the connection, as if it had been refused. Later ones it repeats. So it is with a server
 * that takes a connection and then says nothing, or with which there can be no TLS: who begins says so, and ends.
 */
static natsStatus connect_by(natsOptions *o, struct kl_busn_connection *c, bool signs)
{
    natsStatus s = NATS_NO_SERVER;

    for (int tries = 0; tries < (signs ? SIGN_TRIES : 1) && s != NATS_OK; tries++) {
        s = natsConnection_Connect(&c->nc, o);
        if (s != NATS_ERR)
            break;
    }
    if (s == NATS_CONNECTION_AUTH_FAILED || s == NATS_TIMEOUT || s == NATS_SSL_ERROR)
        return s;
    if (s != NATS_OK) {
        s = natsOptions_SetRetryOnFailedConnect(o, true, on_connected, c);
        TRY(natsConnection_Connect(&c->nc, o));
        if (s == NATS_NOT_YET_CONNECTED)
            return NATS_OK;                            /* it goes on trying; on_connected tells */
    }
    if (s == NATS_OK)
        on_connected(c->nc, c);
    return s;
}

static natsStatus connect_one(struct kl_busn *b, int which)
{
    struct kl_busn_connection *c = &b->connections[which];
    natsOptions *o = NULL;
    natsStatus   s = natsOptions_Create(&o);
    char name[64], inbox[64];

    snprintf(inbox, sizeof inbox, "_INBOX.%.20s", b->options.service);
    snprintf(name, sizeof name, "koalemos-%s-%s", b->cell,
             which == KL_BUSN_BULK ? "append" : which == KL_BUSN_FAST ? "ask" : "read");
    TRY(servers(o, b->options.url));
    TRY(natsOptions_SetName(o, name));
    TRY(natsOptions_SetCustomInboxPrefix(o, inbox));
    TRY(natsOptions_SetTimeout(o, CONNECT_MS));
    TRY(natsOptions_SetMaxReconnect(o, -1));
    TRY(natsOptions_SetReconnectWait(o, RECONNECT_WAIT_MS));
    TRY(natsOptions_SetReconnectJitter(o, 100, 200));
    TRY(natsOptions_SetPingInterval(o, PING_MS));
    TRY(natsOptions_SetMaxPingsOut(o, 2));
    TRY(natsOptions_SetWriteDeadline(o, b->options.op_timeout_ms));
    TRY(natsOptions_SetFailRequestsOnDisconnect(o, true));
    /* Nothing is kept by the library while the connection is broken: what it would send later,
     * by itself, would come before what was lost. */
    TRY(natsOptions_SetReconnectBufSize(o, 0));
    TRY(natsOptions_SetSendAsap(o, which != KL_BUSN_BULK));
    TRY(natsOptions_SetReconnectedCB(o, on_connected, c));
    TRY(natsOptions_SetDisconnectedCB(o, on_disconnected, c));
    TRY(natsOptions_SetClosedCB(o, on_closed, c));
    TRY(natsOptions_SetErrorHandler(o, on_error, c));
    TRY(secrets(o, &b->options));
    TRY(connect_by(o, c, given(b->options.credentials_file) || given(b->options.nkey_file)));
    natsOptions_Destroy(o);
    return s;
}

static natsStatus connect_all(struct kl_busn *b)
{
    natsStatus s = NATS_OK;
    jsOptions  o;
    char subject[KL_BUSN_INBOX_MAX + 8];

    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        TRY(connect_one(b, i));
    TRY(jsOptions_Init(&o));
    o.Wait = b->options.op_timeout_ms < KL_BUSN_TRY_MS ? b->options.op_timeout_ms : KL_BUSN_TRY_MS;
    TRY(natsConnection_JetStream(&b->js, kl_busn_nc(b, KL_BUSN_FAST), &o));
    snprintf(subject, sizeof subject, "%s.a.*", b->inbox);
    TRY(kl_busn_subscribe(b, &b->replies[KL_BUSN_BULK], KL_BUSN_BULK, subject, NULL,
                          kl_busn_on_ack, b, NULL));
    snprintf(subject, sizeof subject, "%s.q.*", b->inbox);
    TRY(kl_busn_subscribe(b, &b->replies[KL_BUSN_FAST], KL_BUSN_FAST, subject, NULL,
                          kl_busn_on_answer, b, NULL));
    snprintf(subject, sizeof subject, "%s.t.>", b->inbox);
    TRY(kl_busn_subscribe(b, &b->replies[KL_BUSN_READ], KL_BUSN_READ, subject, NULL,
                          kl_busn_on_drop, b, NULL));
    /* Each is as many as we asked for. */
    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        TRY(natsSubscription_SetPendingLimits(b->replies[i], -1, -1));
    return s;
}

/* ---- the loop ---- */

static void on_tick(struct kl_env_timer *timer)
{
    struct kl_busn *b = kl_container_of(timer, struct kl_busn, tick);
    int64_t now_ns = kl_env_mono_ns(b->env);

    if (atomic_load(&b->closed))
        return;
    kl_busn_jobs_tick(b, now_ns);
    kl_busn_log_tick(b, now_ns);
    kl_busn_asks_tick(b, now_ns);
    kl_busn_taps_tick(b, now_ns);
    b->env->sched->arm(b->loop, &b->tick, KL_BUSN_TICK_MS);
}

static void on_begin(struct kl_env_task *task)
{
    struct kl_busn *b = kl_container_of(task, struct kl_busn, begin);

    b->env->sched->arm(b->loop, &b->tick, KL_BUSN_TICK_MS);
}

static void on_quiet(struct kl_env_task *task)
{
    atomic_store(&kl_container_of(task, struct kl_busn, quiet)->is_quiet, true);
}

static void on_end(struct kl_env_task *task)
{
    struct kl_busn *b = kl_container_of(task, struct kl_busn, end);

    kl_busn_jobs_cancel(b);
    kl_busn_log_cancel(b);
    kl_busn_asks_cancel(b);
}

static bool healthy(struct kl_bus *bus, struct kl_err *err)
{
    struct kl_busn *b = kl_busn(bus);
    bool well = true;

    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        if (!kl_busn_up(b, i)) {
            kl_busn_unreachable(b, err);
            return false;
        }
    pthread_mutex_lock(&b->trouble_lock);
    if (b->trouble.code != KL_OK &&
        kl_env_mono_ns(b->env) - b->trouble_ns < TROUBLE_MS * INT64_C(1000000)) {
        *err = b->trouble;
        well = false;
    }
    pthread_mutex_unlock(&b->trouble_lock);
    return well;
}

static bool all_closed(struct kl_busn *b)
{
    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        if (b->connections[i].nc != NULL && !atomic_load(&b->connections[i].closed))
            return false;
    return atomic_load(&b->callbacks) == 0;
}

static void disconnect(struct kl_busn *b)
{
    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        if (b->connections[i].nc != NULL)
            natsConnection_Close(b->connections[i].nc);        /* wakes who waits for an answer */
}

static void close_bus(struct kl_bus *bus)
{
    struct kl_busn *b = kl_busn(bus);

    assert(!atomic_load(&b->closed));
    kl_busn_farewell(b);
    atomic_store(&b->closed, true);
    while (atomic_load(&b->entered) > 0)
        ;
    /* What runs on the loop from here on has seen `closed` and leaves the crews alone. */
    kl_busn_post(b, b->loop, &b->quiet);
    while (!atomic_load(&b->is_quiet))
        usleep(100);
    disconnect(b);
    kl_busn_crew_end(&b->bulk);
    kl_busn_crew_end(&b->fast);
    kl_busn_crew_end(&b->jobs);
    kl_busn_crew_end(&b->looks);
    /* libnats calls back until it says that it is done; only then may the loop end. */
    for (int i = 0; !all_closed(b) && i < CLOSING_MS; i++)
        usleep(1000);
    assert(all_closed(b));
    kl_busn_post(b, b->loop, &b->end);
    b->env->sched->loop_free(b->loop);
    b->loop = NULL;
}

static void dismantle(struct kl_busn *b)
{
    while (b->taps != NULL)
        kl_busn_tap_close(b->taps);
    kl_busn_hosts_free(b);
    kl_busn_subscriptions_free(b);
    jsCtx_Destroy(b->js);
    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        natsConnection_Destroy(b->connections[i].nc);
    pthread_mutex_destroy(&b->trouble_lock);
    pthread_mutex_destroy(&b->create_lock);
    free(b->calls);
    free(b->generations);
    free(b->spare);
    free(b->partitions);
    free((char *)b->options.url);
    free((char *)b->options.nkey_file);
    free((char *)b->options.credentials_file);
    free(b);
}

static void free_bus(struct kl_bus *bus)
{
    assert(atomic_load(&kl_busn(bus)->closed));
    dismantle(kl_busn(bus));
}

/* "nats://user:secret@host:4222" is shown as "nats://host:4222". */
static void show_url(const char *urls, char *out, size_t room)
{
    size_t n = 0;

    while (*urls != '\0' && n + 1 < room) {
        const char *end = urls + strcspn(urls, ","), *host = urls, *scheme = strstr(urls, "://");

        if (scheme != NULL && scheme < end)
            host = scheme + 3;
        for (const char *c = host; c < end; c++)
            if (*c == '@')
                host = c + 1;
        n += (size_t)snprintf(out + n, room - n, "%s%.*s%.*s", n > 0 ? "," : "",
                              (int)(scheme != NULL && scheme < end ? scheme + 3 - urls : 0), urls,
                              (int)(end - host), host);
        urls = *end == ',' ? end + 1 : end;
    }
    if (n >= room)
        out[room - 1] = '\0';
}

static enum kl_code options_check(const struct kl_bus_nats_options *o, struct kl_err *err)
{
    if (o->url == NULL || o->url[0] == '\0')
        return kl_fail(err, KL_EINVAL, "no address of a NATS server is given");
    if (o->cell == NULL || o->cell[0] == '\0' || strlen(o->cell) > 32 ||
        strspn(o->cell, "abcdefghijklmnopqrstuvwxyz0123456789") != strlen(o->cell))
        return kl_fail(err, KL_EINVAL, "a cell's name is 1 to 32 of a-z and 0-9");
    if (o->partitions == 0 || o->partitions > KL_BUS_PARTITIONS_MAX)
        return kl_fail(err, KL_EINVAL, "%u partitions: 1 to %d", o->partitions,
                       KL_BUS_PARTITIONS_MAX);
    if (o->log_replicas != 1 && o->log_replicas != 3 && o->log_replicas != 5)
        return kl_fail(err, KL_EINVAL, "%u replicas of the log: 1, 3 or 5", o->log_replicas);
    return KL_OK;
}

static void metrics_add(struct kl_busn *b, struct kl_metrics *m)
{
    static const struct { const char *name, *help; size_t at; } all[] = {
        { "koalemos_bus_appended_records_total", "Records appended to the log.",
          offsetof(struct kl_busn, appended_records) },
        { "koalemos_bus_appended_bytes_total", "Bytes of records appended to the log.",
          offsetof(struct kl_busn, appended_bytes) },
        { "koalemos_bus_duplicates_total", "Appends that were there already.",
          offsetof(struct kl_busn, duplicates) },
        { "koalemos_bus_refused_total", "Appends that failed.", offsetof(struct kl_busn, refused) },
        { "koalemos_bus_connects_total", "Connections made to NATS.",
          offsetof(struct kl_busn, reconnects) },
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        *(struct kl_metric **)((char *)b + all[i].at) =
            m != NULL ? kl_metrics_add(m, KL_COUNTER, all[i].name, "", all[i].help) : &b->unseen;
}

/* The error handler may not have come to it yet. */
static bool was_denied(struct kl_busn *b)
{
    bool denied = atomic_load(&b->denied);

    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++) {
        const char *words;

        denied |= b->connections[i].nc != NULL &&
                  natsConnection_GetLastError(b->connections[i].nc, &words) == NATS_CONNECTION_AUTH_FAILED;
    }
    return denied;
}

/* A server may close the connection before the library has read why: then it tries again, and is refused for
 * good a little later. Who cannot be reached yet is waited for no longer. */
static void hear_of_refusal(struct kl_busn *b)
{
    for (int i = 0, ms = 0; i < KL_BUSN_CONNECTIONS; i++)
        for (; ms < REFUSAL_MS && !kl_busn_up(b, i) && !was_denied(b); ms++)
            usleep(1000);
}

enum kl_code kl_bus_nats_open(struct kl_env *env, const struct kl_bus_nats_options *options,
                              struct kl_bus **bus, struct kl_err *err)
{
    struct kl_busn *b;
    natsStatus s;
    bool denied;

    if (options_check(options, err) != KL_OK)
        return kl_within(err, "open the bus over NATS");
    b = kl_new(sizeof *b);
    b->env = env;
    b->log = options->log;
    b->options = *options;
    b->options.url = kl_strdup(options->url);
    if (options->nkey_file != NULL)
        b->options.nkey_file = kl_strdup(options->nkey_file);
    if (options->credentials_file != NULL)
        b->options.credentials_file = kl_strdup(options->credentials_file);
    if (b->options.service == NULL)
        b->options.service = "koa";
    if (b->options.op_timeout_ms <= 0)
        b->options.op_timeout_ms = 5000;
    snprintf(b->cell, sizeof b->cell, "%s", options->cell);
    show_url(options->url, b->url, sizeof b->url);
    snprintf(b->inbox, sizeof b->inbox, "_INBOX.%.12s.%016llx%016llx", b->options.service,
             (unsigned long long)kl_env_draw(env), (unsigned long long)kl_env_draw(env));
    b->bus = (struct kl_bus){ .append = kl_busn_append, .info = kl_busn_info,
                              .read_open = kl_busn_read_open, .read_close = kl_busn_read_close,
                              .purge = kl_busn_purge, .ask = kl_busn_ask, .serve = kl_busn_serve,
                              .unserve = kl_busn_unserve, .header = kl_busn_header, .answer = kl_busn_answer,
                              .kv = kl_busn_kv, .watch = kl_busn_watch,
                              .unwatch = kl_busn_unwatch, .healthy = healthy, .close = close_bus,
                              .free = free_bus, .env = env };
    metrics_add(b, options->metrics);
    b->partitions = kl_new(options->partitions * sizeof *b->partitions);
    b->last_waiting = &b->waiting_jobs;
    b->tick.fire = on_tick;
    b->begin.run = on_begin;
    b->quiet.run = on_quiet;
    b->end.run = on_end;
    pthread_mutex_init(&b->trouble_lock, NULL);
    pthread_mutex_init(&b->create_lock, NULL);
    for (int i = 0; i < KL_BUSN_CONNECTIONS; i++)
        b->connections[i].bus = b;
    b->loop = env->sched->loop_new(env->sched, "bus-nats", SIZE_MAX);
    kl_busn_crew_start(&b->bulk, 1);
    kl_busn_crew_start(&b->fast, 1);
    kl_busn_crew_start(&b->jobs, KL_BUSN_JOB_THREADS);
    kl_busn_crew_start(&b->looks, KL_BUSN_LOOK_THREADS);
    s = connect_all(b);
    if (s == NATS_OK)
        hear_of_refusal(b);
    denied = s == NATS_CONNECTION_AUTH_FAILED || was_denied(b);
    if (s != NATS_OK || denied) {
        if (denied) {
            atomic_store(&b->denied, true);
            kl_busn_unreachable(b, err);
        } else if (s == NATS_TIMEOUT) {
            kl_fail(err, KL_EAGAIN, "NATS at %s does not answer: is a nats-server there that is well, and does it take "
                    "connections that do not begin with TLS?", b->url);
        } else {
            kl_fail(err, KL_EINVAL, "open the bus over NATS at %s: %s", b->url, natsStatus_GetText(s));
        }
        close_bus(&b->bus);
        dismantle(b);
        return err->code;
    }
    kl_busn_post(b, b->loop, &b->begin);
    *bus = &b->bus;
    return KL_OK;
}
