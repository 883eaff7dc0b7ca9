/*
 * What a member asks another for a snapshot, and what it is answered: any bytes are refused with a code, or are
 * what the header draws, and then they are written again as they came.
 */
#include "ingestor/peer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ing_peer_question q, any = { 0 };
    struct ing_peer_answer   a;
    struct kl_buf            out = { 0 };
    struct kl_err            err;
    uint8_t                  again[ING_PEER_QUESTION];

    if (ing_peer_question_get(kl_span(data, size), &q, &err) == KL_OK) {
        ing_peer_question_put(&q, again);
        if (memcmp(again, data, sizeof again) != 0)
            abort();
    }
    /* Offsets are those that were asked for: take the bytes' own. */
    if (size >= ING_PEER_HEAD)
        memcpy(&any.offset, data + 24, 8);
    if (ing_peer_answer_get(kl_span(data, size), &any, &a, &err) == KL_OK) {
        if ((a.piece.size == 0 && a.size != 0) || a.piece.size > ING_PEER_PIECE || a.offset + a.piece.size > a.size)
            abort();
        kl_buf_init(&out, KL_BUS_MESSAGE_MAX);
        ing_peer_answer_put(&a, &out);
        if (out.size != size || memcmp(out.at, data, size) != 0)
            abort();
        kl_buf_deinit(&out);
    }
    return 0;
}
