"""A filter of Swift's proxy: a line for each request, with its status and its token, in the file that it is configured with."""


def factory(_, file, **__):
    def wrap(app):
        def serve(environ, start):
            asked = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {environ.get('HTTP_X_AUTH_TOKEN', '-')}"

            def answer(status, *rest):
                with open(file, "a") as log:
                    log.write(f"{status[:3]} {asked}\n")
                return start(status, *rest)

            return app(environ, answer)

        return serve

    return wrap
