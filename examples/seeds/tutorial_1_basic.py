# 001_df27e34ee1479877.txt, Example 1
from multiprocessing import Process
import os
import time

def worker():
    print(f'Process ID: {os.getpid()} is working...')
    time.sleep(2)
    print(f'Process ID: {os.getpid()} finished...')

if __name__ == "__main__":
    p1 = Process(target=worker)
    p2 = Process(target=worker)

    p1.start()
    p2.start()

    p1.join()
    p2.join()

    print("Both process completed.")
