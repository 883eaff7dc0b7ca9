USES := libkoal/base libkoal/env libkoal/crypt libkoal/http libkoal/bus libkoal/store libkoal/app libtsproto overrides libblock libpromql
