# SPDX-License-Identifier: MIT
"""Text for programs that tests run in processes of their own, whichever form serves them."""

IN_THREADS = """
import threading

def in_threads(work, count=4):
    failed = []
    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            failed.append(error)
            raise
    threads = [threading.Thread(target=guarded, args=[number]) for number in range(count)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert not failed
"""
