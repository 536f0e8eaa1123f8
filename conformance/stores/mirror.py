"""mirror.py FROM FROM-TOKEN TO TO-TOKEN WORDS: copies the containers volume-0000 to volume-0002 of one Swift account to another one, by
Swift's API alone, as container sync does: object by object, under the same names. Objects whose names have one of the WORDS (with commas between) are
left out when they are not there yet; what is gone is taken away."""

import json
import sys
import urllib.error
import urllib.request

source, source_token, target, target_token, words = sys.argv[1:]
words = [word for word in words.split(",") if word]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(method, url, token, body=None):
    request = urllib.request.Request(url, data=body, headers={"X-Auth-Token": token}, method=method)
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as refused:
        sys.exit(f"mirror: {method} {url}: {refused.code} {refused.read()[:500]}")


def listing(url, token, container):
    names, marker = {}, ""
    while True:
        page = json.loads(ask("GET", f"{url}/{container}?format=json&limit=1000&marker={marker}", token))
        if not page:
            return names
        names.update((entry["name"], entry["hash"]) for entry in page)
        marker = page[-1]["name"]


copied = left = 0
for container in ("volume-0000", "volume-0001", "volume-0002"):
    ask("PUT", f"{target}/{container}", target_token)
    there = listing(source, source_token, container)
    here = listing(target, target_token, container)
    for name in sorted(there):
        if here.get(name) == there[name]:
            continue
        if any(word in name for word in words):
            left += 1
            continue
        ask("PUT", f"{target}/{container}/{name}", target_token, ask("GET", f"{source}/{container}/{name}", source_token))
        copied += 1
    for name in here:
        if name not in there:
            ask("DELETE", f"{target}/{container}/{name}", target_token)
print(f"mirror: {copied} copied, {left} left out")
