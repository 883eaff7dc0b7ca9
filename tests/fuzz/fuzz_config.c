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
    { 0 },
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_config *c, *again;
    struct kl_err     err = { 0 };
    struct kl_buf     text = { 0 };

    if (kl_config_load(table, "f", kl_span(data, size), NULL, NULL, &c, &err) != KL_OK) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    kl_config_print(c, &text);
    for (const struct kl_option *o = table; o->path != NULL; o++) {
        const char *v = kl_config_text(c, o->path);
        if (v != NULL && strstr(v, "://") != NULL)
            goto out;                                  /* it may hold a secret, which is not printed */
        for (; v != NULL && *v >= ' ' && *v <= '~'; v++) { }
        if (v != NULL && *v != '\0')
            goto out;                                  /* print promises this of plain text only */
    }
    if (kl_config_load(table, "g", kl_buf_span(&text), NULL, NULL, &again, &err) != KL_OK)
        abort();
    for (const struct kl_option *o = table; o->path != NULL; o++) {
        const char *x = kl_config_text(c, o->path), *y = kl_config_text(again, o->path);
        if ((x == NULL) != (y == NULL) || (x != NULL && strcmp(x, y) != 0))
            abort();
    }
    kl_config_free(again);
out:
    kl_buf_deinit(&text);
    kl_config_free(c);
    return 0;
}
