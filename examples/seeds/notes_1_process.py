# 004_d67be4d46b6a3a6a.txt, Process Creation
from multiprocessing import Process

def worker(name):
    print(f"Hello from {name}")

if __name__ == "__main__":
    p = Process(target=worker, args=("Process-1",))
    p.start()
    p.join()
