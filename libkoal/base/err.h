#ifndef KL_ERR_H
#define KL_ERR_H
/*
 * Errors: a code for the program, a sentence for the operator.
 * A failing call fills *err and returns the code; each caller may put context in front.
 * A kl_err is a plain value: copy it, keep it, hand it over.
 */
enum kl_code {
    KL_OK = 0,
    KL_EIO,                /* a device, a file or a connection failed; may hold data hostage */
    KL_ECORRUPT,           /* bytes that are not what they were when written */
    KL_ELIMIT,             /* a named bound was passed: memory, size, count */
    KL_EINVAL,             /* the caller's, or the user's, input is wrong */
    KL_EAGAIN,             /* not now: full, no leader, no quorum, not caught up; retry later */
    KL_ENOENT,             /* there is none */
    KL_EEXIST,             /* there is one already; a compare-and-set was lost */
    KL_ETIMEOUT,           /* no answer in time: it may or may not have happened */
    KL_ECANCELED           /* the asker left, or we are stopping */
};

enum { KL_ERR_TEXT_MAX = 400 };
struct kl_err { enum kl_code code; char text[KL_ERR_TEXT_MAX]; };

/* Record a failure; always returns `code`, so that `return kl_fail(...)` reads well. */
enum kl_code kl_fail(struct kl_err *err, enum kl_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Put "<context>: " in front of a failure already recorded; returns err->code. Where all of it does
 * not fit, the beginning of what was recorded gives way, never its end: that is the reason. */
enum kl_code kl_within(struct kl_err *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

const char *kl_code_name(enum kl_code code);           /* "io", "corrupt", ...: for logs, metrics */
#endif
