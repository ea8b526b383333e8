-- A JSON POST as an SDK or a browser would send it: some headers besides the necessary ones.
wrk.method = "POST"
wrk.body = '{"id":7,"name":"edge","values":[1,2,3,4,5]}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["User-Agent"] = "bench/1"
