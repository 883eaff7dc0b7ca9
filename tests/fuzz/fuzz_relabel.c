/*
 * Any rules on any labels: refused with words, or applied; what is kept is a label set. The bytes up
 * to the first NUL are the rules, then names and values follow, each ended by a NUL.
 */
#include "libkoal/base/config.h"
#include "libkoal/base/relabel.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const struct kl_option table[] = {
    { "rules", KL_OPT_LIST, NULL, 0, 0, NULL, "", false, kl_relabel_check }, { 0 },
};

static struct kl_span next(struct kl_cur *c)
{
    const uint8_t *begin = c->at, *nul = memchr(c->at, 0, kl_cur_left(c));
    size_t         n = nul == NULL ? kl_cur_left(c) : (size_t)(nul - begin);

    c->at += n + (nul != NULL);
    return kl_span(begin, n);
}

static void apply(const struct kl_relabel *r, struct kl_cur *c)
{
    struct kl_labels_builder b;
    struct kl_arena arena;
    struct kl_buf   out;
    struct kl_err   err;
    bool            fit = true;

    kl_labels_start(&b);
    while (kl_cur_left(c) > 0 && b.count < KL_LABELS_MAX) {
        struct kl_span name = next(c), value = next(c);
        fit = fit && name.size > 0 && kl_utf8_ok(name) && kl_utf8_ok(value);
        for (size_t i = 0; i < b.count; i++)
            fit = fit && !kl_span_eq(b.pairs[i].name, name);
        kl_labels_add(&b, name, value, &err);
    }
    kl_arena_init(&arena, 1 << 20);
    kl_buf_init(&out, 2 * KL_LABELS_BYTES_MAX);
    if (fit && kl_relabel_apply(r, &b, &arena) == KL_RELABEL_KEPT)
        switch (kl_labels_finish(&b, &out, &err)) {
        case KL_OK:
            if (kl_labels_check((struct kl_labels){ (const uint8_t *)out.at, out.size }, &err) != KL_OK)
                abort();
            break;
        case KL_ELIMIT: break;
        default:        abort();
        }
    kl_buf_deinit(&out);
    kl_arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kl_cur      c = kl_cur(data, size);
    struct kl_span     rules = next(&c);
    struct kl_config  *config;
    struct kl_relabel *r;
    struct kl_buf      yaml = { 0 };
    struct kl_err      err = { 0 };

    kl_buf_adds(&yaml, "rules: ");
    kl_buf_add(&yaml, rules.at, rules.size);
    if (kl_config_load(table, "f", kl_buf_span(&yaml), NULL, NULL, &config, &err) != KL_OK) {
        if (err.text[0] == '\0')
            abort();
    } else {
        const char *text = kl_config_text(config, "rules");
        if (text != NULL && kl_relabel_new(text, &r, &err) != KL_OK)
            abort();                                   /* the row's check has passed it */
        if (text != NULL) {
            apply(r, &c);
            kl_relabel_free(r);
        }
        kl_config_free(config);
    }
    kl_buf_deinit(&yaml);
    return 0;
}
