# 004_d67be4d46b6a3a6a.txt, Synchronization Example
from multiprocessing import Process, Lock

def worker(lock, n):
    with lock:
        print(f"Process {n} acquired lock")

if __name__ == "__main__":
    lock = Lock()
    processes = [Process(target=worker, args=(lock, i)) for i in range(3)]
    for p in processes: p.start()
    for p in processes: p.join()
