/* Any bytes as a configuration file: refused with words, or loaded, printed and loaded to the same. */
#include "libkoal/base/config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct kl_option table[] = {
    { "listen", KL_OPT_TEXT, "x", 0, 0, NULL, "" },
    { "a.int", KL_OPT_INT, "1", INT64_MIN, INT64_MAX, NULL, "" },
    { "a.bytes", KL_OPT_BYTES, "1MiB", 0, INT64_MAX, NULL, "" },
    { "a.b.ms", KL_OPT_MS, "1s", 0, INT64_MAX, NULL, "" },
    { "a.b.bool", KL_OPT_BOOL, "true", 0, 0, NULL, "" },
    { "c.choice", KL_OPT_CHOICE, "one", 0, 0, "one|two", "" },
    { "list", KL_OPT_TEXT, NULL, 0, 0, NULL, "" },
    { "t.ms", KL_OPT_MS, "1s", 0, INT64_MAX, NULL, "", true },
    { "t.text", KL_OPT_TEXT, NULL, 0, 0, NULL, "", true },
    { "t.rules", KL_OPT_LIST, NULL, 0, 0, NULL, "", true },
    { 0 },
};

static bool is_list(const struct kl_option *o) { return o->type == KL_OPT_LIST; }

/* Print promises to load to the same of plain text only, and never prints what may be a secret. */
static bool plain(const struct kl_config *c)
{
    for (const struct kl_option *o = table; o->path != NULL; o++) {
        const char *v = kl_config_text(c, o->path);
        if (v != NULL && !is_list(o) && strstr(v, "://") != NULL)
            return false;
        for (; v != NULL && *v >= ' ' && *v <= '~'; v++) { }
        if (v != NULL && *v != '\0')
            return false;
    }
    return true;
}

static void want_same(const struct kl_config *a, const struct kl_config *b)
{
    for (const struct kl_option *o = table; o->path != NULL; o++) {
        const char *x = kl_config_text(a, o->path), *y = kl_config_text(b, o->path);
        if ((x == NULL) != (y == NULL) || (x != NULL && strcmp(x, y) != 0))
            abort();
    }
}

static enum kl_code nothing(void *ctx, size_t item, const char *key, size_t nth, struct kl_span value,
                            struct kl_err *err)
{
    (void)ctx, (void)item, (void)key, (void)nth, (void)value, (void)err;
    return KL_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_config *c, *again;
    const struct kl_config *view;
    const char       *name;
    struct kl_err     err = { 0 };
    struct kl_buf     text = { 0 };
    bool              good;

    if (kl_config_load(table, "f", kl_span(data, size), NULL, NULL, &c, &err) != KL_OK) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    kl_config_print(c, &text);
    good = plain(c);
    for (size_t i = 0; (view = kl_config_tenant_at(c, i, &name)) != NULL; i++)
        good = good && plain(view);
    if (kl_config_text(c, "t.rules") != NULL &&
        kl_config_list(kl_config_text(c, "t.rules"), nothing, NULL, &err) != KL_OK)
        abort();
    if (good) {
        if (kl_config_load(table, "g", kl_buf_span(&text), NULL, NULL, &again, &err) != KL_OK)
            abort();
        want_same(c, again);
        for (size_t i = 0; (view = kl_config_tenant_at(c, i, &name)) != NULL; i++)
            want_same(view, kl_config_tenant(again, kl_span_str(name)));
        kl_config_free(again);
    }
    kl_buf_deinit(&text);
    kl_config_free(c);
    return 0;
}
