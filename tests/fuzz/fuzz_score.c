/* Scores of any text for any term: within their bounds, and 1 for a text that begins with it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "querier/score.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct qr_search     s = { 0 };
    struct qr_score_room room = { 0 };
    struct kl_err        err;
    const uint8_t       *text;
    size_t               term;
    double               score;

    if (size < 3)
        return 0;
    s.alg = data[0] & 1 ? QR_FUZZ_JAROWINKLER : QR_FUZZ_SUBSEQUENCE;
    s.fold = data[0] & 2;
    s.threshold = (double)(data[1] % 101) / 100;
    text = memchr(data + 2, '\n', size - 2);
    if (text == NULL)
        return 0;
    term = (size_t)(text++ - data) - 2;
    if (qr_search_term(&s, kl_span(data + 2, term), &err) == KL_OK) {
        score = qr_score(&s, kl_span(text, (size_t)(data + size - text)), &room);
        if (!(score == -1 || (score >= 0 && score <= 1)))
            abort();
        if (qr_score(&s, kl_span(data + 2, term), &room) != 1)
            abort();
    }
    qr_search_deinit(&s);
    qr_score_room_deinit(&room);
    return 0;
}
