local body = io.open("body", "rb")
wrk.method = "POST"
wrk.body = body:read("*a")
wrk.headers["Content-Type"] = "multipart/form-data; boundary=d3benchmark"
