/*
 * The gRPC server's thread: it accepts, reads, writes, looks at the clock once a second, and sends the
 * answers that other threads have left. The lock is held to put a call onto that list and to take the list.
 */
#include "libkoal/http/grpc_priv.h"
#include "libkoal/http/http_priv.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_DEFAULT = 1000, IDLE_DEFAULT_S = 300, CALL_DEFAULT_S = 30 };
enum { EVENTS = 64, READS_A_TURN = 8, READ_BYTES = 16 * 1024, TICK_MS = 1000, ACCEPTS_A_TURN = 64 };
#define BUFFERED_DEFAULT ((size_t)256 << 20)

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void server_unref(struct kl_grpc_server *s)
{
    if (atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&s->lock);
    free(s->listen);
    free(s);
}

/* ---- calls, out and back ---- */

void kl_grpc_conn_unref(struct kl_grpc_conn *c)
{
    if (atomic_fetch_sub(&c->refs, 1) == 1) {
        free(c->pending);
        free(c);
    }
}

/* At the end of the turn its output is sent, and it is let go where it is dead. */
static void touch(struct kl_grpc_conn *c)
{
    if (c->touched)
        return;
    c->touched = true;
    c->next_touched = c->server->touched;
    c->server->touched = c;
}

static void answer_now(struct kl_grpc_call *c)
{
    c->answered = true;
    touch(c->conn);
    kl_count(c->server->answers[c->status >= 0 && c->status < KL_GRPC_STATUSES ? c->status : 2], 1);
    kl_grpc_session_answer(c);
}

void kl_grpc_call_ready(struct kl_grpc_call *c)
{
    static const struct kl_span nothing = { "", 0 };

    if (c->refused == 0 && c->conn->in_hand >= KL_GRPC_STREAMS_MAX)
        kl_grpc_call_refuse(c, KL_GRPC_EXHAUSTED, "too many calls of this connection are under way");
    if (c->refused != 0) {
        kl_grpc_call_fill(c, c->refused, c->refused_words, nothing, nothing);
        answer_now(c);
        return;
    }
    c->handed = true;
    c->conn->used = true;
    c->conn->in_hand++;
    c->server->in_hand++;
    atomic_fetch_add(&c->server->refs, 1);
    atomic_fetch_add(&c->conn->refs, 1);
    c->route->handle(c->route->ctx, c);
}

void kl_grpc_answer(struct kl_grpc_call *c, int status, const char *words, struct kl_span message,
                    struct kl_span details)
{
    struct kl_grpc_server *s = c->server;
    uint64_t one = 1;
    bool     late;

    kl_grpc_call_fill(c, status, words, message, details);
    pthread_mutex_lock(&s->lock);
    late = s->stopped;
    if (!late) {
        c->next_answered = s->answered;
        s->answered = c;
        (void)!write(s->wake_fd, &one, sizeof one);
    }
    pthread_mutex_unlock(&s->lock);
    if (late) {
        kl_grpc_conn_unref(c->conn);
        kl_grpc_call_free(c);
        server_unref(s);
    }
}

bool kl_grpc_answers_take(struct kl_grpc_server *s, int64_t *drain_ms)
{
    struct kl_grpc_call *list, *next;
    uint64_t count;
    bool     stopping;

    (void)!read(s->wake_fd, &count, sizeof count);
    pthread_mutex_lock(&s->lock);
    list = s->answered;
    s->answered = NULL;
    stopping = s->stopping;
    *drain_ms = s->drain_ms;
    pthread_mutex_unlock(&s->lock);
    for (; list != NULL; list = next) {
        struct kl_grpc_conn *c = list->conn;

        next = list->next_answered;
        s->in_hand--;
        c->in_hand--;
        if (list->closed)
            kl_grpc_call_free(list);
        else
            answer_now(list);
        kl_grpc_conn_unref(c);
        server_unref(s);
    }
    return stopping;
}

/* ---- connections ---- */

static void want(struct kl_grpc_conn *c, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.ptr = c };

    if (c->events != events)
        epoll_ctl(c->server->epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
    c->events = events;
}

static bool send_some(struct kl_grpc_conn *c, const uint8_t *bytes, size_t size, size_t *sent)
{
    ssize_t n = c->tls != NULL ? kl_tls_send(c->tls, bytes, size)
                               : send(c->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);

    *sent = n > 0 ? (size_t)n : 0;
    return n >= 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Whether the connection is one that bytes may be sent on; else it says what it waits for, or is dead. */
static bool shake(struct kl_grpc_conn *c)
{
    enum kl_tls_step step;

    if (c->tls == NULL || c->shaken)
        return true;
    step = kl_tls_handshake(c->tls);
    if (step == KL_TLS_DONE) {
        c->shaken = true;
        c->certified = kl_tls_asks(c->server->options.tls) && kl_tls_certified(c->tls);
        return true;
    }
    c->dead = step == KL_TLS_FAILED;
    if (!c->dead)
        want(c, step == KL_TLS_WRITES ? EPOLLOUT : EPOLLIN);
    return false;
}

static void keep_pending(struct kl_grpc_conn *c, const uint8_t *bytes, size_t size)
{
    if (size > c->pending_room) {
        c->pending = kl_resize(c->pending, size);      /* one frame at most */
        c->pending_room = size;
    }
    memcpy(c->pending, bytes, size);
    c->pending_at = 0;
    c->pending_size = size;
}

/* Sends what there is; one that does not take it is not read from meanwhile. */
static void flush(struct kl_grpc_conn *c)
{
    const uint8_t *bytes;
    size_t         sent;
    long           n;

    if (!c->dead && !shake(c))
        return;
    while (!c->dead) {
        if (c->pending_at < c->pending_size) {
            c->dead = !send_some(c, c->pending + c->pending_at, c->pending_size - c->pending_at, &sent);
            c->pending_at += sent;
            if (c->dead || c->pending_at < c->pending_size)
                break;
        }
        n = kl_grpc_session_out(c, &bytes);
        if (n <= 0) {
            c->dead = n < 0 || kl_grpc_session_done(c);
            break;
        }
        c->dead = !send_some(c, bytes, (size_t)n, &sent);
        if (sent < (size_t)n)
            keep_pending(c, bytes + sent, (size_t)n - sent);
    }
    if (c->dead)
        return;
    if (c->pending_at < c->pending_size) {
        c->blocked_ms = c->blocked_ms != 0 ? c->blocked_ms : c->server->now_ms;
        want(c, EPOLLOUT);
    } else {
        c->blocked_ms = 0;
        want(c, EPOLLIN);
    }
}

/* Called from within the session: it ends when the session has said why. */
void kl_grpc_chatter(struct kl_grpc_conn *c, unsigned cost)
{
    int64_t now = c->server->now_ms;

    c->chatter += (double)(now - c->chatter_ms) * KL_GRPC_CHATTER / 10000;
    if (c->chatter > KL_GRPC_CHATTER)
        c->chatter = KL_GRPC_CHATTER;
    c->chatter_ms = now;
    if (c->chatter >= 0 && (c->chatter -= cost) < 0) {
        kl_count(c->server->floods, 1);
        kl_grpc_session_goaway(c, KL_GRPC_CALM);
        touch(c);
    }
}

static void read_from(struct kl_grpc_conn *c)
{
    uint8_t bytes[READ_BYTES];

    if (!shake(c))
        return;
    for (int i = 0; i < READS_A_TURN && !c->dead && c->pending_at == c->pending_size; i++) {
        /* A record of TLS is no larger than `bytes`: none stays behind, where epoll would not tell. */
        ssize_t n = c->tls != NULL ? kl_tls_recv(c->tls, bytes, sizeof bytes)
                                   : recv(c->fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
            break;
        if (n <= 0) {
            c->dead = true;
            break;
        }
        c->active_ms = c->server->now_ms;
        if (!kl_grpc_session_in(c, bytes, (size_t)n)) {
            flush(c);                                  /* perhaps it says why */
            c->dead = true;
        }
        flush(c);
    }
}

static void conn_free(struct kl_grpc_conn *c)
{
    struct kl_grpc_server *s = c->server;

    kl_grpc_session_close(c);
    kl_tls_session_free(c->tls);
    *c->at = c->next;
    if (c->next != NULL)
        c->next->at = c->at;
    close(c->fd);
    kl_grpc_conn_unref(c);
    kl_gauge_set(s->connections_gauge, --s->conn_count);
}

static void conn_new(struct kl_grpc_server *s, int fd, const struct sockaddr *peer)
{
    struct kl_grpc_conn *c;
    struct epoll_event   e = { .events = EPOLLIN };
    int                  on = 1;

    if (s->conn_count >= s->options.connections_max) {
        kl_count(s->turned_away, 1);
        close(fd);
        return;
    }
    c = kl_new(sizeof *c);
    *c = (struct kl_grpc_conn){ .server = s, .fd = fd, .number = ++s->numbers, .begun_ms = s->now_ms,
                                .active_ms = s->now_ms, .chatter_ms = s->now_ms,
                                .chatter = KL_GRPC_CHATTER, .events = EPOLLIN };
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    atomic_store(&c->refs, 1);
    e.data.ptr = c;
    if (s->options.tls != NULL)
        c->tls = kl_tls_session_new(s->options.tls, fd, "h2");
    if ((s->options.tls != NULL && c->tls == NULL) || !kl_grpc_session_open(c)) {
        kl_tls_session_free(c->tls);
        close(fd);
        free(c);
        return;
    }
    kl_http_peer_text(peer, c->peer);
    c->dead = epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &e) != 0;
    c->next = s->conns;
    c->at = &s->conns;
    if (c->next != NULL)
        c->next->at = &c->next;
    s->conns = c;
    kl_gauge_set(s->connections_gauge, ++s->conn_count);
    touch(c);
}

static void listens(struct kl_grpc_server *s, bool yes)
{
    struct epoll_event e = { .events = yes ? EPOLLIN : 0, .data.ptr = s };

    epoll_ctl(s->epoll_fd, EPOLL_CTL_MOD, s->listen_fd, &e);
    s->deaf = !yes;
}

static void accept_all(struct kl_grpc_server *s)
{
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage peer = { 0 };
        socklen_t size = sizeof peer;
        int       fd = accept4(s->listen_fd, (struct sockaddr *)&peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);

        /* Without a descriptor, or memory, who waits goes on waiting, and would wake us at once again. */
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            listens(s, false);
        if (fd < 0)
            return;
        conn_new(s, fd, (const struct sockaddr *)&peer);
    }
}

/* ---- time ---- */

static void tick_conn(struct kl_grpc_conn *c)
{
    const struct kl_grpc_server *s = c->server;
    int64_t call_ms = (int64_t)s->options.call_timeout_s * 1000;
    int64_t idle_ms = (int64_t)s->options.idle_timeout_s * 1000;
    struct kl_grpc_call *call, *next;
    bool    useless;

    if (c->blocked_ms != 0 && s->now_ms - c->blocked_ms > call_ms)
        c->dead = true;
    for (call = c->calls; call != NULL; call = next) {
        next = call->next;
        if ((!call->handed || call->answered) && s->now_ms - call->begun_ms > call_ms)
            kl_grpc_session_reset(call);
    }
    useless = !c->used && s->now_ms - c->begun_ms > KL_GRPC_FIRST_S * 1000;
    if (c->calls == NULL && c->in_hand == 0 && (s->now_ms - c->active_ms > idle_ms || useless)) {
        kl_grpc_session_goaway(c, KL_GRPC_GOODBYE);
        flush(c);
        c->dead = true;
    }
    touch(c);
}

static void tick(struct kl_grpc_server *s)
{
    if (s->now_ms - s->ticked_ms < TICK_MS)
        return;
    s->ticked_ms = s->now_ms;
    if (s->deaf && s->listen_fd >= 0)
        listens(s, true);
    for (struct kl_grpc_conn *c = s->conns; c != NULL; c = c->next)
        tick_conn(c);
}

/* Dead ones go where no event of theirs can be waiting. */
static void sweep(struct kl_grpc_server *s)
{
    for (struct kl_grpc_conn *c = s->touched, *next; c != NULL; c = next) {
        next = c->next_touched;
        c->touched = false;
        if (!c->dead)
            flush(c);
        if (c->dead)
            conn_free(c);
    }
    s->touched = NULL;
}

static void turn(struct kl_grpc_server *s)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(s->epoll_fd, events, EVENTS, TICK_MS);

    s->now_ms = now_ms();
    for (int i = 0; i < n; i++) {
        struct kl_grpc_conn *c = events[i].data.ptr;
        if (c == NULL || (void *)c == (void *)s)
            continue;                                  /* the wake-up, the listener */
        touch(c);
        if (events[i].events & (EPOLLERR | EPOLLHUP))
            c->dead = true;
        else if (events[i].events & EPOLLIN)
            read_from(c);
    }
    for (int i = 0; i < n; i++)
        if (events[i].data.ptr == (void *)s && s->listen_fd >= 0)
            accept_all(s);
    tick(s);
}

static void begin_stop(struct kl_grpc_server *s)
{
    close(s->listen_fd);
    s->listen_fd = -1;
    for (struct kl_grpc_conn *c = s->conns; c != NULL; c = c->next) {
        kl_grpc_session_goaway(c, KL_GRPC_GOODBYE);
        touch(c);
    }
}

static bool has_calls(const struct kl_grpc_server *s)
{
    for (const struct kl_grpc_conn *c = s->conns; c != NULL; c = c->next)
        if (c->calls != NULL)
            return true;
    return s->in_hand > 0;
}

static void *run(void *ctx)
{
    struct kl_grpc_server *s = ctx;
    int64_t drain_ms, until_ms = 0;

    for (;;) {
        bool stopping;

        turn(s);
        stopping = kl_grpc_answers_take(s, &drain_ms);
        if (stopping && until_ms == 0) {
            until_ms = s->now_ms + drain_ms + 1;
            begin_stop(s);
        }
        sweep(s);
        if (stopping && (!has_calls(s) || s->now_ms >= until_ms))
            break;
    }
    while (s->conns != NULL)
        conn_free(s->conns);
    pthread_mutex_lock(&s->lock);
    s->stopped = true;
    pthread_mutex_unlock(&s->lock);
    kl_grpc_answers_take(s, &drain_ms);                       /* whatever came in between: all are closed */
    return NULL;
}

/* ---- the server ---- */

static struct kl_metric *count(struct kl_grpc_server *s, enum kl_metric_kind kind, const char *name,
                               const char *labels, const char *help)
{
    return s->options.metrics == NULL ? &s->unseen
                                      : kl_metrics_add(s->options.metrics, kind, name, labels, help);
}

struct kl_grpc_server *kl_grpc_server_new(const struct kl_grpc_options *o)
{
    struct kl_grpc_server *s = kl_new(sizeof *s);
    char                   label[24];

    s->options = *o;
    s->listen = kl_strdup(o->listen);
    if (s->options.connections_max == 0)
        s->options.connections_max = CONNECTIONS_DEFAULT;
    if (s->options.idle_timeout_s == 0)
        s->options.idle_timeout_s = IDLE_DEFAULT_S;
    if (s->options.call_timeout_s == 0)
        s->options.call_timeout_s = CALL_DEFAULT_S;
    s->bodies.cap_bytes = o->buffered_bytes_max > 0 ? o->buffered_bytes_max : BUFFERED_DEFAULT;
    s->listen_fd = s->epoll_fd = s->wake_fd = -1;
    atomic_store(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    for (int i = 0; i < KL_GRPC_STATUSES; i++) {
        snprintf(label, sizeof label, "status=\"%d\"", i);
        s->answers[i] = count(s, KL_COUNTER, "koalemos_grpc_answers_total", label,
                              "Calls answered, by gRPC's status.");
    }
    s->connections_gauge = count(s, KL_GAUGE, "koalemos_grpc_connections", "", "Connections of gRPC.");
    s->floods = count(s, KL_COUNTER, "koalemos_grpc_floods_total", "",
                      "Connections ended for resets and chatter.");
    s->turned_away = count(s, KL_COUNTER, "koalemos_grpc_turned_away_total", "",
                           "Connections closed because there were too many.");
    return s;
}

void kl_grpc_route_add(struct kl_grpc_server *s, const struct kl_grpc_route *route)
{
    assert(!s->started && s->route_count < KL_GRPC_ROUTES_MAX);
    s->routes[s->route_count++] = *route;
}

static void close_all(struct kl_grpc_server *s)
{
    if (s->listen_fd >= 0)
        close(s->listen_fd);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    s->listen_fd = s->epoll_fd = s->wake_fd = -1;
}

enum kl_code kl_grpc_server_start(struct kl_grpc_server *s, struct kl_err *err)
{
    struct epoll_event listens = { .events = EPOLLIN, .data.ptr = s }, wakes = { .events = EPOLLIN };
    sigset_t all, before;
    int      failed = 0;

    if (kl_http_listen_open(s->listen, &s->listen_fd, &s->port, err) != KL_OK)
        return kl_within(err, "gRPC");
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->epoll_fd < 0 || s->wake_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->listen_fd, &listens) != 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->wake_fd, &wakes) != 0) {
        kl_fail(err, KL_EIO, "cannot serve gRPC on %s: %s", s->listen, strerror(errno));
        close_all(s);
        return err->code;
    }
    s->now_ms = s->ticked_ms = now_ms();
    sigfillset(&all);                                  /* signals are main's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&s->thread, NULL, run, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed != 0) {
        close_all(s);
        return kl_fail(err, KL_EIO, "cannot serve gRPC on %s: %s", s->listen, strerror(failed));
    }
    s->started = true;
    return KL_OK;
}

unsigned kl_grpc_server_port(const struct kl_grpc_server *s) { return s->port; }

void kl_grpc_server_stop(struct kl_grpc_server *s, int64_t drain_ms)
{
    uint64_t one = 1;

    if (!s->started)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    s->drain_ms = drain_ms;
    (void)!write(s->wake_fd, &one, sizeof one);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    close_all(s);
    s->started = false;
}

void kl_grpc_server_free(struct kl_grpc_server *s)
{
    if (s == NULL)
        return;
    kl_grpc_server_stop(s, 0);
    server_unref(s);
}
