USES := libkoal/base
LIBS := -lcrypto
