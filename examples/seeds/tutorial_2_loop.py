# 001_df27e34ee1479877.txt, Example 2
from multiprocessing import Process
import time

def square(num):
    print(f'Square of {num} = {num * num}')
    time.sleep(2)

if __name__ == "__main__":
    numbers = [1,2,3,4,5]
    processes = []

    for n in numbers:
        p = Process(target=square, args=(n,))
        processes.append(p)
        p.start()

    for p in processes:
        p.join()

    print('All tasks done!')
