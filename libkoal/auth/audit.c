#include "libkoal/auth/audit_priv.h"
#include "libkoal/auth/read.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct kl_audit {
    struct kl_audit_options options;
    char    *name;
    char    *key;
    int      folder, head, fd;
    unsigned number;
    int64_t  size;

    pthread_mutex_t lock;                              /* of all above that changes, and what follows; held
                                                          across a write, and while an order is synced */
    pthread_cond_t  wake;
    pthread_t thread;
    struct kl_buf line;
    uint64_t n, synced;
    char     hash[KL_AUDIT_HASH + 1];
    int64_t  second;                                   /* in which refusals are counted */
    unsigned refusals;
    uint64_t dropped;
    bool     closing, failed;                          /* failed: said so; a failed file is given up */
};

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct kl_span key_of(const struct kl_audit *a) { return kl_span(a->key, a->options.key.size); }

static enum kl_code fail_once(struct kl_audit *a, const char *what, struct kl_err *err)
{
    kl_fail(err, KL_EIO, "audit log %s: %s: %s", a->name, what, strerror(errno));
    if (!a->failed)
        kl_logf(a->options.log, KL_ERROR, "%s", err->text);
    a->failed = true;
    return err->code;
}

/* ---- files ---- */

static void say_hash(struct kl_audit *a, const char *when)
{
    kl_logf(a->options.log, KL_INFO, "audit log %s %s: record %" PRIu64 ", hash %s", a->name, when, a->n, a->hash);
}

static enum kl_code open_file(struct kl_audit *a, unsigned number, struct kl_err *err)
{
    char file[KL_AUDIT_NAME_MAX + 32];
    int  fd;
    off_t end;

    kl_audit_file_name(a->name, number, file);
    fd = openat(a->folder, file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_once(a, file, err);
    end = lseek(fd, 0, SEEK_END);
    if (end < 0 || fsync(a->folder) != 0) {
        close(fd);
        return fail_once(a, file, err);
    }
    if (a->fd >= 0)
        close(a->fd);
    a->fd = fd;
    a->number = number;
    a->size = end;
    return KL_OK;
}

/* The record is on disk, with all before it; the head is not yet. */
static bool put_head(struct kl_audit *a, uint64_t n, const char *hash)
{
    char head[KL_AUDIT_HASH + 40];
    int  size = snprintf(head, sizeof head, "%020" PRIu64 " %s\n", n, hash);

    return pwrite(a->head, head, (size_t)size, 0) == size;
}

static enum kl_code sync_all(struct kl_audit *a, struct kl_err *err)
{
    if (a->synced == a->n)
        return KL_OK;
    if (a->fd < 0 || fdatasync(a->fd) != 0)
        return fail_once(a, "sync", err);
    if (!put_head(a, a->n, a->hash) || fdatasync(a->head) != 0)
        return fail_once(a, "head", err);
    a->synced = a->n;
    return KL_OK;
}

/* The same, but that the lock is let go while the disk works: a refusal, which anyone may bring about, makes
 * no thread of a server wait. The file may end meanwhile, and an order be synced past what this one has. */
static void sync_aside(struct kl_audit *a)
{
    uint64_t      n = a->n;
    char          hash[KL_AUDIT_HASH + 1];
    int           fd;
    bool          done;
    struct kl_err err;

    if (a->synced == n)
        return;
    strcpy(hash, a->hash);
    fd = fcntl(a->fd, F_DUPFD_CLOEXEC, 0);
    pthread_mutex_unlock(&a->lock);
    done = fd >= 0 && fdatasync(fd) == 0;
    pthread_mutex_lock(&a->lock);
    if (!done)
        (void)fail_once(a, "sync", &err);
    if (fd >= 0)
        close(fd);
    if (!done || n <= a->synced)
        return;
    done = put_head(a, n, hash);
    if (done) {
        pthread_mutex_unlock(&a->lock);
        done = fdatasync(a->head) == 0;
        pthread_mutex_lock(&a->lock);
    }
    if (!done)
        (void)fail_once(a, "head", &err);
    else if (n > a->synced)
        a->synced = n;
}

/* A record that was written in part is taken back: the next would not be one. */
static enum kl_code append(struct kl_audit *a, struct kl_audit_record *r, struct kl_err *err)
{
    char    hash[KL_AUDIT_HASH + 1];
    ssize_t n;

    if (a->size >= a->options.file_bytes) {
        if (sync_all(a, err) != KL_OK || open_file(a, a->number + 1, err) != KL_OK)
            return err->code;
        say_hash(a, "goes on in a new file");
    }
    r->n = a->n + 1;
    r->time_ms = now_ms();
    strcpy(hash, a->hash);
    kl_buf_reset(&a->line);
    kl_audit_line(r, key_of(a), hash, &a->line);
    assert(a->line.size <= KL_AUDIT_LINE_MAX + 1);
    if (a->fd < 0)
        return kl_fail(err, KL_EIO, "audit log %s: cannot be written", a->name);
    n = write(a->fd, a->line.at, a->line.size);
    if (n != (ssize_t)a->line.size) {
        int why = errno;

        if (n >= 0)
            errno = ENOSPC;
        fail_once(a, "write", err);
        if (n > 0 && ftruncate(a->fd, a->size) != 0) {
            kl_logf(a->options.log, KL_ERROR, "audit log %s: half a record stays: %s", a->name, strerror(why));
            close(a->fd);
            a->fd = -1;
        }
        return err->code;
    }
    a->failed = false;
    a->size += n;
    a->n = r->n;
    strcpy(a->hash, hash);
    return KL_OK;
}

static void *keep_synced(void *ctx)
{
    struct kl_audit *a = ctx;

    pthread_mutex_lock(&a->lock);
    while (!a->closing) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += KL_AUDIT_SYNC_MS / 1000;
        pthread_cond_timedwait(&a->wake, &a->lock, &until);
        sync_aside(a);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* ---- opening ---- */

/* The end of what is there: its last record, where it fits; else `broken` says why not. */
static enum kl_code find_end(struct kl_audit *a, char broken[KL_GUARD_WORDS_MAX + 1], struct kl_err *err)
{
    struct kl_audit_head head = { 0 };
    unsigned *numbers = NULL;
    size_t    count = 0, size = 0, whole;
    char      file[KL_AUDIT_NAME_MAX + 32], *bytes = NULL, prev[KL_AUDIT_HASH + 1];
    bool      fits = false;

    strcpy(a->hash, KL_AUDIT_ZERO);
    broken[0] = '\0';
    if (kl_audit_files(a->folder, a->name, &numbers, &count, err) != KL_OK)
        return err->code;
    if (kl_audit_head_read(a->folder, a->name, &head, err) == KL_ECORRUPT)
        snprintf(broken, KL_GUARD_WORDS_MAX, "%.200s", err->text);
    a->number = count > 0 ? numbers[count - 1] : 1;
    free(numbers);
    if (count > 0) {
        kl_audit_file_name(a->name, a->number, file);
        if (kl_auth_read(a->folder, file, KL_AUDIT_FILE_MOST, &bytes, &size, NULL, err) != KL_OK)
            return err->code;
        for (whole = size; whole > 0 && bytes[whole - 1] != '\n'; whole--) { }
        if (whole < size)
            snprintf(broken, KL_GUARD_WORDS_MAX, "the last record in %s was cut", file);
        if (whole > 0) {
            size_t from = whole - 1;

            while (from > 0 && bytes[from - 1] != '\n')
                from--;
            fits = kl_audit_line_read(kl_span(bytes + from, whole - 1 - from), key_of(a), NULL, &a->n, a->hash, prev);
        }
        /* What is there stays as it is, and the chain goes on in a new file. */
        if (whole < size || (whole > 0 && !fits))
            a->number++;
        free(bytes);
    }
    if (!fits) {
        if (size > 0 && broken[0] == '\0')
            snprintf(broken, KL_GUARD_WORDS_MAX, "the last record in %s does not fit", file);
        if (head.n > 0) {                              /* a file that was just begun, or one that is gone */
            a->n = head.n;
            strcpy(a->hash, head.hash);
        }
    } else if (head.n > a->n) {
        snprintf(broken, KL_GUARD_WORDS_MAX, "the log ended with record %" PRIu64 ", but had %" PRIu64, a->n, head.n);
        a->n = head.n;
        strcpy(a->hash, head.hash);
    }
    if (count == 0 && head.n > 0)
        snprintf(broken, KL_GUARD_WORDS_MAX, "%" PRIu64 " records are gone", head.n);
    a->synced = a->n;
    return KL_OK;
}

/* The folder's own name. */
static bool sync_above(int folder)
{
    int  fd = openat(folder, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return done;
}

static enum kl_code open_folder(struct kl_audit *a, struct kl_err *err)
{
    char head[KL_AUDIT_NAME_MAX + 8];
    bool is_new = mkdir(a->options.folder, 0700) == 0;

    if (!is_new && errno != EEXIST)
        return kl_fail(err, KL_EIO, "audit.dir %s: %s", a->options.folder, strerror(errno));
    a->folder = open(a->options.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (a->folder < 0 || (is_new && !sync_above(a->folder)))
        return kl_fail(err, KL_EIO, "audit.dir %s: %s", a->options.folder, strerror(errno));
    snprintf(head, sizeof head, "%s.head", a->name);
    a->head = openat(a->folder, head, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (a->head < 0)
        return kl_fail(err, KL_EIO, "audit.dir %s: %s: %s", a->options.folder, head, strerror(errno));
    if (flock(a->head, LOCK_EX | LOCK_NB) != 0)
        return kl_fail(err, KL_EEXIST, "audit.dir %s: another process writes the audit log %s", a->options.folder,
                       a->name);
    return KL_OK;
}

static void release(struct kl_audit *a)
{
    if (a->fd >= 0)
        close(a->fd);
    if (a->head >= 0)
        close(a->head);
    if (a->folder >= 0)
        close(a->folder);
    if (a->key != NULL)
        kl_wipe(a->key, a->options.key.size);
    free(a->key);
    free(a->name);
    kl_buf_deinit(&a->line);
    pthread_cond_destroy(&a->wake);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

static struct kl_audit *make(const struct kl_audit_options *o)
{
    struct kl_audit   *a = kl_new(sizeof *a);
    pthread_condattr_t attr;

    a->options = *o;
    a->folder = a->head = a->fd = -1;
    a->name = kl_strdup(o->name);
    a->key = kl_new(o->key.size + 1);
    if (o->key.size > 0)
        memcpy(a->key, o->key.at, o->key.size);
    if (a->options.file_bytes <= 0)
        a->options.file_bytes = KL_AUDIT_FILE_BYTES;
    for (char *c = a->name; *c != '\0'; c++)           /* "koalemos serve" */
        if (*c == ' ' || *c == '/')
            *c = '-';
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->wake, &attr);
    pthread_condattr_destroy(&attr);
    return a;
}

enum kl_code kl_audit_open(const struct kl_audit_options *o, struct kl_audit **out, struct kl_err *err)
{
    struct kl_audit *a;
    char             broken[KL_GUARD_WORDS_MAX + 1];
    sigset_t         all, before;
    bool             started;

    if (strlen(o->name) > KL_AUDIT_NAME_MAX)
        return kl_fail(err, KL_EINVAL, "the name of an audit log has at most %d bytes", KL_AUDIT_NAME_MAX);
    a = make(o);
    if (open_folder(a, err) != KL_OK || find_end(a, broken, err) != KL_OK || open_file(a, a->number, err) != KL_OK ||
        (broken[0] != '\0' && append(a, &(struct kl_audit_record){ .event = "broken", .words = broken }, err) != KL_OK) ||
        append(a, &(struct kl_audit_record){ .event = "start" }, err) != KL_OK || sync_all(a, err) != KL_OK) {
        release(a);
        return err->code;
    }
    if (broken[0] != '\0')
        kl_logf(o->log, KL_ERROR, "audit log %s: %s", a->name, broken);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    started = pthread_create(&a->thread, NULL, keep_synced, a) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) {
        release(a);
        return kl_fail(err, KL_EIO, "audit log: no thread for it");
    }
    say_hash(a, "begins");
    *out = a;
    return KL_OK;
}

void kl_audit_close(struct kl_audit *a)
{
    struct kl_err err;

    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->closing = true;
    pthread_cond_signal(&a->wake);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    (void)append(a, &(struct kl_audit_record){ .event = "stop" }, &err);       /* fail_once says it */
    (void)sync_all(a, &err);
    say_hash(a, "ends");
    release(a);
}

/* ---- records ---- */

static struct kl_audit_record record_of(const char *event, const struct kl_guard_ask *ask, const char *key)
{
    return (struct kl_audit_record){ .event = event, .key = key, .peer = ask->peer, .method = ask->method,
                                     .path = ask->path, .tenant = ask->tenant };
}

enum kl_code kl_audit_order(struct kl_audit *a, const struct kl_guard_ask *ask, const char *key, struct kl_err *err)
{
    struct kl_audit_record r = record_of("order", ask, key);

    err->code = KL_OK;
    pthread_mutex_lock(&a->lock);
    if (append(a, &r, err) == KL_OK)
        (void)sync_all(a, err);
    pthread_mutex_unlock(&a->lock);
    return err->code;
}

void kl_audit_done(struct kl_audit *a, const struct kl_guard_ask *ask, const char *key, unsigned status)
{
    struct kl_audit_record r = record_of("done", ask, key);
    struct kl_err          err;

    r.status = status;
    pthread_mutex_lock(&a->lock);
    (void)append(a, &r, &err);                         /* the order stands; fail_once says the rest */
    pthread_mutex_unlock(&a->lock);
}

void kl_audit_refused(struct kl_audit *a, const struct kl_guard_ask *ask, const struct kl_guard_verdict *v)
{
    struct kl_audit_record r = record_of("refused", ask, v->key);
    struct kl_err          err;
    int64_t                second = now_ms() / 1000;
    char                   words[80];

    r.status = v->status;
    r.words = v->words;
    pthread_mutex_lock(&a->lock);
    if (second != a->second) {
        if (a->dropped > 0) {
            snprintf(words, sizeof words, "%" PRIu64 " more refusals", a->dropped);
            if (append(a, &(struct kl_audit_record){ .event = "dropped", .words = words }, &err) == KL_OK)
                a->dropped = 0;
        }
        a->second = second;
        a->refusals = 0;
    }
    if (a->refusals++ < KL_AUDIT_REFUSALS)
        (void)append(a, &r, &err);
    else
        a->dropped++;
    pthread_mutex_unlock(&a->lock);
}
