USES := libkoal/base libkoal/env
LIBS := -lcrypto
