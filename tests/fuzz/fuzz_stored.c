/*
 * The index of a snapshot in the object storage, and keys: any bytes (the fuzzer cannot guess a checksum, so
 * it is made here) are refused with words, or are what the header draws, and then are written again as they came.
 */
#include "ingestor/stored.h"

#include <stdlib.h>
#include <string.h>

static void index_of(struct kl_span in)
{
    struct ing_stored *s = kl_new(sizeof *s);
    struct kl_buf      with = { 0 }, again = { 0 };
    struct kl_err      err = { 0 };
    char               key[KL_STORE_KEY_MAX + 1];

    kl_buf_add(&with, in.at, in.size);
    kl_buf_add32(&with, kl_crc32c(0, in.at, in.size));
    if (ing_stored_get(kl_buf_span(&with), s, &err) == KL_OK) {
        ing_stored_put(s, &again);
        if (!kl_span_eq(kl_buf_span(&with), kl_buf_span(&again)))
            abort();
        for (uint32_t i = 0; i < s->file_count; i++) {
            ing_stored_file_key(s, i, key);
            if (!kl_store_key_fit(key))
                abort();
        }
    } else if (err.text[0] == '\0') {
        abort();
    }
    kl_buf_deinit(&with);
    kl_buf_deinit(&again);
    free(s);
}

static void key_of(struct kl_span in)
{
    struct ing_stored_name name;
    const char            *file;
    char                   again[KL_STORE_KEY_MAX + 1], *text = malloc(in.size + 1);

    memcpy(text, in.at, in.size);
    text[in.size] = '\0';
    if (ing_stored_key_parse(text, 7, &name, &file)) {
        ing_stored_key(7, &name, file, again);
        if (strcmp(text, again) != 0)
            abort();
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'c')
        key_of(kl_span(data, size));
    else
        index_of(kl_span(data, size));
    return 0;
}
