#include "libkoal/app/app_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libkoal/base/json.h"

/* Bare where that is unmistakable, else quoted as in JSON, which also keeps a line a line. */
static void put_text(struct kl_buf *b, struct kl_span text)
{
    const char *at = text.at;

    for (size_t i = 0; i < text.size; i++)
        if ((unsigned char)at[i] <= 0x20 || at[i] == '"' || at[i] == '=' || at[i] == '\\' || at[i] == 0x7f) {
            kl_json_str(b, text);
            return;
        }
    kl_buf_add(b, at, text.size);
}

/* " name=value" of each, or ",\"name\":value". */
static void put_fields(struct kl_buf *b, bool json, const struct kl_log_field *fields, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct kl_log_field *f = &fields[i];

        if (!f->is_number && f->text.size == 0)
            continue;
        kl_buf_addf(b, json ? ",\"%s\":" : " %s=", f->name);
        if (f->is_number)
            kl_buf_addf(b, "%" PRId64, f->number);
        else if (json)
            kl_json_str(b, f->text);
        else
            put_text(b, f->text);
    }
}

/* One write a line, so that lines of several threads do not mix. */
static void put(struct kl_log *log, enum kl_level level, const char *line,
                const struct kl_log_field *fields, size_t field_count)
{
    static const char *const levels[] = { "debug", "info", "warn", "error" };
    struct kl_app_log *l = (struct kl_app_log *)log;
    struct kl_buf      b = { 0 };
    struct timespec    now;
    struct tm          utc;
    char               when[40];
    ssize_t            ignored;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
    if (atomic_load_explicit(&l->json, memory_order_relaxed)) {
        kl_buf_addf(&b, "{\"time\":\"%s.%03ldZ\",\"level\":\"%s\",\"service\":", when,
                    now.tv_nsec / 1000000, levels[level]);
        kl_json_cstr(&b, l->service);
        kl_buf_adds(&b, ",\"message\":");
        kl_json_cstr(&b, line);
        put_fields(&b, true, fields, field_count);
        kl_buf_adds(&b, "}\n");
    } else {
        kl_buf_addf(&b, "%s.%03ldZ %-5s %s: ", when, now.tv_nsec / 1000000, levels[level], l->service);
        for (const char *c = line; *c != '\0'; c++)    /* a line stays a line, whatever it quotes */
            kl_buf_add8(&b, (unsigned char)*c < 0x20 ? ' ' : (uint8_t)*c);
        put_fields(&b, false, fields, field_count);
        kl_buf_add8(&b, '\n');
    }
    ignored = write(STDERR_FILENO, b.at, b.size);      /* nowhere to say that it failed */
    (void)ignored;
    kl_buf_deinit(&b);
}

void kl_app_log_init(struct kl_app_log *l, const char *service)
{
    *l = (struct kl_app_log){ .log = { .write = put, .least = KL_INFO }, .service = service };
}

void kl_app_log_configure(struct kl_app_log *l, const struct kl_config *c)
{
    const char *level = kl_config_text(c, "log.level");

    enum kl_level least;

    atomic_store_explicit(&l->json, strcmp(kl_config_text(c, "log.format"), "json") == 0, memory_order_relaxed);
    least = strcmp(level, "debug") == 0 ? KL_DEBUG : strcmp(level, "info") == 0 ? KL_INFO
          : strcmp(level, "warn") == 0 ? KL_WARN : KL_ERROR;
    __atomic_store_n(&l->log.least, least, __ATOMIC_RELAXED);  /* as kl_logf reads it */
}
