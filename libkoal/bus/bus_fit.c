/* What every bus refuses before it does anything: what bus.h rules out, and what NATS could not name. */
#include "libkoal/bus/bus_fit_priv.h"

#include <inttypes.h>
#include <string.h>

enum kl_code kl_bus_fit_partition(uint32_t partition, uint32_t partitions, struct kl_err *err)
{
    if (partition < partitions)
        return KL_OK;
    return kl_fail(err, KL_EINVAL, "there is no partition %" PRIu32 ": the log has %" PRIu32,
                   partition, partitions);
}

enum kl_code kl_bus_fit_append(const struct kl_bus_append *op, uint32_t partitions,
                               struct kl_err *err)
{
    if (kl_bus_fit_partition(op->partition, partitions, err) != KL_OK)
        return err->code;
    if (op->record.size == 0)
        return kl_fail(err, KL_EINVAL, "an empty record");
    if (op->record.size > KL_BUS_MESSAGE_MAX)
        return kl_fail(err, KL_ELIMIT, "a record of %zu bytes: at most %d", op->record.size,
                       KL_BUS_MESSAGE_MAX);
    return KL_OK;
}

/* A leading, trailing or double dot would be an empty token to NATS. */
static bool has_empty_token(const char *name, size_t size)
{
    return name[0] == '.' || name[size - 1] == '.' || strstr(name, "..") != NULL;
}

bool kl_bus_fit_subject(const char *s)
{
    size_t n = strnlen(s, KL_BUS_SUBJECT_MAX + 1);

    if (n == 0 || n > KL_BUS_SUBJECT_MAX || has_empty_token(s, n) || strncmp(s, "log.", 4) == 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] == '*' || s[i] == '>' || s[i] == 0x7f)
            return false;
    return true;
}

enum kl_code kl_bus_fit_ask(const struct kl_bus_ask *op, struct kl_err *err)
{
    if (!kl_bus_fit_subject(op->subject))
        return kl_fail(err, KL_EINVAL, "unfit subject \"%.*s\"", KL_BUS_SUBJECT_MAX, op->subject);
    if (op->question.size > KL_BUS_MESSAGE_MAX)
        return kl_fail(err, KL_ELIMIT, "a question of %zu bytes: at most %d", op->question.size,
                       KL_BUS_MESSAGE_MAX);
    return KL_OK;
}

static bool key_fits(const char *key)
{
    static const char fit[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.=-";
    size_t n = strnlen(key, KL_BUS_KEY_MAX + 1);

    return n > 0 && n <= KL_BUS_KEY_MAX && strspn(key, fit) == n && !has_empty_token(key, n);
}

enum kl_code kl_bus_fit_kv(const struct kl_bus_kv *op, struct kl_err *err)
{
    if (!key_fits(op->key))
        return kl_fail(err, KL_EINVAL, "unfit key \"%.*s\"", KL_BUS_KEY_MAX, op->key);
    if (op->kind == KL_BUS_KV_PUT && op->value.size > KL_BUS_VALUE_MAX)
        return kl_fail(err, KL_ELIMIT, "a value of %zu bytes: at most %d", op->value.size,
                       KL_BUS_VALUE_MAX);
    return KL_OK;
}
