# 004_d67be4d46b6a3a6a.txt, Using Manager for Shared Objects
from multiprocessing import Manager, Process

def worker(shared_list):
    shared_list.append("data")

if __name__ == "__main__":
    with Manager() as manager:
        shared = manager.list()
        processes = [Process(target=worker, args=(shared,)) for _ in range(3)]
        for p in processes: p.start()
        for p in processes: p.join()
        print(shared)
